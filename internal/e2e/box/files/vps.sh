#!/bin/sh
# Builds the tree of a virtual server as a provider delivers it: a bare Debian, and an archive of packages on its own
# disk, because the box has no network. Docs' pages are run on it. A tree's name in the cache contains the hash of this
# file: after a change here, the trees are built anew.
#
#   vps.sh SUITE TREE MIRROR SECURITY-MIRROR BARE-TREE
#
# It must run in its own mount and PID namespaces, so that nothing stays mounted when it is killed.
set -eu
suite=$1 tree=$2 mirror=$3 security=$4 bare=$5
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# What every image of a provider has (the modules of Python are cloud-init's), and pebble, which stands for the
# certificate authority.
present="apparmor bash-completion curl iproute2 iputils-ping less nano netbase openssh-server procps sudo openssl pebble
	python3-configobj python3-cryptography python3-requests python3-yaml"

# What the pages install, with all that these packages recommend.
archive="bind9 bind9-dnsutils certbot charon-systemd strongswan-swanctl libcharon-extauth-plugins
	libcharon-extra-plugins libstrongswan-standard-plugins nginx libnginx-mod-rtmp nftables"

cp -a "$bare" "$tree"
printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >"$tree/etc/dpkg/dpkg.cfg.d/box"
echo force-unsafe-io >>"$tree/etc/dpkg/dpkg.cfg.d/box"
printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
# This computer's settings for its mirror (proxy, retries, checks of dates) apply to the tree, too.
apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIP)' >"$tree/etc/apt/apt.conf.d/90machine" || true
cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
echo "step: system of a VPS"
chroot "$tree" apt-get -q update
chroot "$tree" apt-get -qy --no-install-recommends install $present
chroot "$tree" apt-get clean

echo "step: archive of packages"
chroot "$tree" apt-get -qy --download-only install $archive
mkdir "$tree/srv/archive"
mv "$tree"/var/cache/apt/archives/*.deb "$tree/srv/archive"
(cd "$tree/srv/archive" && dpkg-scanpackages . 2>/dev/null >Packages)
echo "deb [trusted=yes] file:/srv/archive ./" >"$tree/etc/apt/sources.list"

# pebble supports HTTPS only. The tree trusts its certificate, so certbot needs no option for it.
mkdir -p "$tree/etc/pebble"
chroot "$tree" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
	-subj /CN=pebble -addext subjectAltName=DNS:localhost -keyout /etc/pebble/key.pem -out /etc/pebble/cert.pem
cp "$tree/etc/pebble/cert.pem" "$tree/usr/local/share/ca-certificates/pebble.crt"
chroot "$tree" update-ca-certificates

# Every server makes host keys of its own.
chroot "$tree" apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/resolv.conf" "$tree/etc/apt/apt.conf.d/90machine" \
	"$tree/etc/dpkg/dpkg.cfg.d/box" "$tree/usr/sbin/policy-rc.d" "$tree/etc/machine-id"
: >"$tree/etc/machine-id"
