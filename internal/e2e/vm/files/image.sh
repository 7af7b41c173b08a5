#!/bin/sh
# Turns a tree of the box into that of a virtual machine, in which nothing was ever started: Debian's kernel and what
# a computer needs that is no container. An image's name in the cache contains the hash of this file.
#
#   image.sh tree DAEMONS-TREE WORK     leaves WORK/tree, WORK/vmlinuz and WORK/modules, the initrd's, in their order
#   image.sh disk WORK                  makes WORK/disk.img from WORK/tree, and removes that
#
# It must run in its own mount and PID namespaces, so that nothing stays mounted when it is killed.
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

packages() {
	cp -a "$1" "$tree"
	mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
	printf 'path-exclude=/usr/share/%s/*\n' doc man locale info >"$tree/etc/dpkg/dpkg.cfg.d/vm"
	echo force-unsafe-io >>"$tree/etc/dpkg/dpkg.cfg.d/vm"
	printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
	chmod 755 "$tree/usr/sbin/policy-rc.d"
	# This computer's settings for its mirror apply to the tree, too.
	apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIP)' \
		>"$tree/etc/apt/apt.conf.d/90machine" || true
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
	chroot "$tree" apt-get -q update
	chroot "$tree" apt-get -qy --no-install-recommends install \
		udev kmod e2fsprogs apparmor cron procps iptables ppp pppoe strace wireguard-tools
}

# The kernel's package is only unpacked: its scripts would make an initrd and want a boot loader. Of its modules the
# tree gets those that a server on virtio can use, about a tenth.
kernel() {
	image=$(chroot "$tree" apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
	version=${image#linux-image-}
	chroot "$tree" sh -c "cd /var/cache && apt-get -q download $image"
	mkdir "$work/kernel"
	# Each pattern must match something, on every release: some of these drivers are part of one's kernel.
	dpkg-deb --fsys-tarfile "$tree"/var/cache/"$image"_*.deb | tar -x -C "$work/kernel" --wildcards \
		'./boot/vmlinuz-*' '*/modules.builtin' '*/modules.builtin.modinfo' '*/modules.order' \
		'*/kernel/crypto/*' '*/kernel/lib/*' '*/kernel/arch/*' '*/kernel/block/*' \
		'*/kernel/fs/ext4/*' '*/kernel/fs/jbd2/*' '*/kernel/fs/mbcache*' '*/kernel/fs/btrfs/*' '*/kernel/fs/autofs/*' \
		'*/kernel/fs/overlayfs/*' '*/kernel/fs/xfs/*' \
		'*/kernel/net/*' '*/kernel/drivers/net/ppp/*' '*/kernel/drivers/net/slip/*' '*/kernel/drivers/net/veth*' \
		'*/kernel/drivers/net/tun*' '*/kernel/drivers/net/dummy*' '*/kernel/drivers/net/macvlan*' \
		'*/kernel/drivers/net/vrf*' '*/kernel/drivers/net/wireguard/*' '*/kernel/drivers/net/virtio_net*' \
		'*/kernel/drivers/net/net_failover*' \
		'*/kernel/drivers/virtio/*' '*/kernel/drivers/block/virtio_blk*' '*/kernel/drivers/block/loop*' \
		'*/kernel/drivers/char/*' \
		'*/kernel/drivers/md/dm-mod*' '*/kernel/drivers/md/dm-log-writes*' '*/kernel/drivers/md/dm-flakey*'
	rm "$tree"/var/cache/"$image"_*.deb
	mv "$work"/kernel/boot/vmlinuz-* "$work/vmlinuz"
	mkdir -p "$tree/usr/lib/modules"
	mv "$work"/kernel/lib/modules/"$version" "$tree/usr/lib/modules/" 2>/dev/null ||
		mv "$work"/kernel/usr/lib/modules/"$version" "$tree/usr/lib/modules/"
	rm -r "$work/kernel"
	for unused in sunrpc ceph bluetooth mac80211 wireless batman-adv openvswitch sctp tipc can nfc rds appletalk ax25 \
		netrom rose 6lowpan ieee802154 mac802154 smc hsr dccp atm; do
		rm -rf "$tree/usr/lib/modules/$version/kernel/net/$unused"
	done
	chroot "$tree" depmod "$version"
	# The initrd's init has no decompressor.
	mkdir "$work/modules"
	number=100
	for module in virtio_pci virtio_blk crc32c_generic ext4; do
		chroot "$tree" modprobe -S "$version" --show-depends "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
		number=$((number + 1))
		case $file in
		*.xz) xz -dc "$tree$file" >"$work/modules/$number-$(basename "$file" .xz)" ;;
		*) cp "$tree$file" "$work/modules/$number-$(basename "$file")" ;;
		esac
	done
}

settings() {
	# Units that wait for hardware which the machine does not have, or work that would start in the middle of a test.
	for unit in systemd-binfmt.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount \
		sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
		modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
		modprobe@fuse.service modprobe@loop.service systemd-pstore.service getty@tty1.service \
		serial-getty@ttyS0.service dpkg-db-backup.timer certbot.timer man-db.timer; do
		ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
	done
	printf 'blacklist %s\n' floppy psmouse pcspkr >"$tree/etc/modprobe.d/vm.conf"
	# strongSwan's af-alg plugin probes the kernel module of every cipher: 20 to 40 s of an emulated boot.
	mkdir -p "$tree/etc/strongswan.d/charon" "$tree/var/log/journal"
	printf 'af-alg {\n    load = no\n}\n' >"$tree/etc/strongswan.d/charon/af-alg.conf"
	# Debian ships this profile in complain mode.
	profile=$tree/etc/apparmor.d/usr.sbin.charon-systemd
	[ ! -e "$profile" ] || sed -i 's/flags=(complain,/flags=(/' "$profile"
	# Clients run these: no profile names them.
	mkdir -p "$tree/usr/local/lib/client" "$tree/etc/swanctl/script" "$tree/var/www/html/archive"
	cp "$tree/usr/sbin/charon-systemd" "$tree/usr/sbin/swanctl" "$tree/usr/local/lib/client/"
	chroot "$tree" chown www-data:www-data /var/www/html/archive
	chroot "$tree" chown bind:bind /var/lib/bind/db.example
	chroot "$tree" systemctl -q enable pebble.service vm-net.service agent.service
	tr -d - </proc/sys/kernel/random/uuid >"$tree/etc/machine-id"
}

case $1 in
tree)
	work=$3 tree=$3/tree
	echo "step: packages"
	packages "$2"
	echo "step: kernel"
	kernel
	chroot "$tree" apt-get clean
	rm -rf "$tree"/var/lib/apt/lists/* "$tree/etc/resolv.conf" "$tree/etc/apt/apt.conf.d/90machine" \
		"$tree/etc/dpkg/dpkg.cfg.d/vm" "$tree/usr/sbin/policy-rc.d"
	;;
disk)
	work=$2 tree=$2/tree
	echo "step: disk"
	settings
	truncate -s 4G "$work/disk.img"
	mkfs.ext4 -q -F -d "$tree" "$work/disk.img"
	rm -rf "$tree"
	;;
esac
