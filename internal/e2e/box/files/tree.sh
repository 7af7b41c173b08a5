#!/bin/sh
# Builds a tree of the box, in which nothing was ever started: a bare Debian with systemd, or one with the guide's
# daemons. A tree's name in the cache contains the hash of this file: after a change here, the trees are built anew.
#
#   tree.sh bare SUITE TREE MIRROR [SECURITY-MIRROR]
#   tree.sh daemons SUITE TREE MIRROR SECURITY-MIRROR BARE-TREE
#
# It must run in its own mount and PID namespaces, so that nothing stays mounted when it is killed.
set -eu
kind=$1 suite=$2 tree=$3 mirror=$4 security=${5-} bare=${6-}
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Settings of dpkg for the build: no manuals, and no waiting for the disk, which is synced once at the end.
quick() {
	mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
	printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >"$tree/etc/dpkg/dpkg.cfg.d/box"
	echo force-unsafe-io >>"$tree/etc/dpkg/dpkg.cfg.d/box"
}

base_system() {
	quick
	debootstrap --variant=minbase --include=ca-certificates,dbus,systemd,systemd-sysv "$suite" "$tree" "$mirror"
	{
		echo "deb $mirror $suite main"
		echo "deb $mirror $suite-updates main"
		[ -z "$security" ] || echo "deb $security $suite-security main"
	} >"$tree/etc/apt/sources.list"
	# These would start in the middle of a test, and most need the Internet.
	chroot "$tree" systemctl -q mask \
		apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
}

daemons() {
	cp -a "$bare" "$tree"
	quick
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
	chmod 755 "$tree/usr/sbin/policy-rc.d"
	# This computer's settings for its mirror (proxy, retries, checks of dates) apply to the tree, too.
	apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIP)' \
		>"$tree/etc/apt/apt.conf.d/90machine" || true
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
	chroot "$tree" apt-get -q update
	# The guide's daemons, pebble, which is a small ACME server, and tools for the tests.
	chroot "$tree" apt-get -qy --no-install-recommends install \
		bind9 bind9-dnsutils \
		certbot pebble openssl curl \
		charon-systemd strongswan-swanctl libcharon-extauth-plugins libcharon-extra-plugins \
		libstrongswan-extra-plugins libstrongswan-standard-plugins \
		nginx libnginx-mod-rtmp \
		iproute2
	# pebble supports HTTPS only. The tree trusts its certificate, so certbot needs no option for it.
	mkdir -p "$tree/etc/pebble"
	chroot "$tree" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
		-subj /CN=pebble -addext subjectAltName=DNS:localhost -keyout /etc/pebble/key.pem -out /etc/pebble/cert.pem
	cp "$tree/etc/pebble/cert.pem" "$tree/usr/local/share/ca-certificates/pebble.crt"
	chroot "$tree" update-ca-certificates
}

case $kind in
bare)
	echo "step: base system"
	base_system
	;;
daemons)
	echo "step: daemons"
	daemons
	;;
esac

chroot "$tree" apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/resolv.conf" "$tree/etc/apt/apt.conf.d/90machine" \
	"$tree/etc/dpkg/dpkg.cfg.d/box" "$tree/usr/sbin/policy-rc.d" "$tree/etc/machine-id"
: >"$tree/etc/machine-id"
