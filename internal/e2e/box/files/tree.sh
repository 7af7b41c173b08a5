#!/bin/sh
# Builds the tree of the box: Debian 12 with systemd and the guide's daemons, none of them started.
# The name under which the tree is cached is the hash of this file: change it, and the tree is built anew.
#
#   tree.sh TREE MIRROR [SECURITY-MIRROR]
#
# To be run in mount and PID namespaces of its own, so that nothing stays mounted when it is killed.
set -eu
tree=$1 mirror=$2 security=${3-}
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

echo "step: base system"
# For dpkg from its first run on: no manuals, and no waiting for the disk, which is synced once at the end.
mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >"$tree/etc/dpkg/dpkg.cfg.d/box"
echo force-unsafe-io >>"$tree/etc/dpkg/dpkg.cfg.d/box"
debootstrap --variant=minbase --include=ca-certificates,dbus,systemd,systemd-sysv bookworm "$tree" "$mirror"

echo "step: daemons"
printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
{
	echo "deb $mirror bookworm main"
	echo "deb $mirror bookworm-updates main"
	[ -z "$security" ] || echo "deb $security bookworm-security main"
} >"$tree/etc/apt/sources.list"
# How this machine reaches its mirror (proxy, retries, checks of dates) holds for the tree too.
apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIP)' >"$tree/etc/apt/apt.conf.d/90machine" || true
cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
chroot "$tree" apt-get -q update
# Beside the guide's hosts: pebble is a small ACME server, the rest is for looking at things.
chroot "$tree" apt-get -qy --no-install-recommends install \
	bind9 bind9-dnsutils \
	certbot pebble openssl curl \
	charon-systemd strongswan-swanctl libcharon-extauth-plugins libcharon-extra-plugins libstrongswan-extra-plugins libstrongswan-standard-plugins \
	nginx libnginx-mod-rtmp \
	iproute2

echo "step: clean"
# pebble speaks HTTPS only. Its certificate is the machine's own affair, so that certbot needs no option for it.
mkdir "$tree/etc/pebble"
chroot "$tree" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=pebble \
	-addext subjectAltName=DNS:localhost -keyout /etc/pebble/key.pem -out /etc/pebble/cert.pem
cp "$tree/etc/pebble/cert.pem" "$tree/usr/local/share/ca-certificates/pebble.crt"
chroot "$tree" update-ca-certificates
# Nothing may start by itself in the middle of a test, and no network is there for it.
chroot "$tree" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
chroot "$tree" apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/resolv.conf" "$tree/etc/apt/apt.conf.d/90machine" \
	"$tree/etc/dpkg/dpkg.cfg.d/box" "$tree/usr/sbin/policy-rc.d" "$tree/etc/machine-id"
: >"$tree/etc/machine-id"
