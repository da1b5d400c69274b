set -eu
root=$1

# --- which packages, with the hashes under which the archives have them

installed=$(chroot "$root" dpkg-query --show --showformat='${Package}:${Architecture}=${Version}\n')
mkdir -p "$root/usr/share/rolesmith"
# shellcheck disable=SC2086 # a list of words
chroot "$root" apt-cache show --no-all-versions $installed |
    awk -F': ' '
        /^Package: / { package = $2 }
        /^Architecture: / { architecture = $2 }
        /^Version: / { version = $2 }
        /^SHA256: / { hash = $2 }
        /^$/ { if (package != "") print package, architecture, version, hash; package = hash = "" }
        END { if (package != "") print package, architecture, version, hash }
    ' | LC_ALL=C sort -u >"$root/usr/share/rolesmith/image-packages"

# --- how it starts

# Known by its identifier, wherever it is attached.
cat >"$root/etc/fstab" <<END
# <file system> <mount point> <type> <options> <dump> <pass>
UUID=$root_uuid / ext4 rw,discard,errors=remount-ro 0 1
UUID=$esp_uuid /boot/efi vfat umask=0077,nofail 0 1
END
mkdir -p "$root/boot/efi"

# What update-grub reads when a kernel comes or goes.
mkdir -p "$root/etc/default"
cat >"$root/etc/default/grub" <<END
# Read by update-grub; see grub-mkconfig in GRUB's manual.
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="$kernel_arguments"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
END

# The first one, by the links that the kernel's package keeps; update-grub replaces it by a complete one.
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<END
set timeout=1
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
search --no-floppy --fs-uuid --set=root $root_uuid
menuentry Debian {
    linux /vmlinuz root=UUID=$root_uuid ro $kernel_arguments
    initrd /initrd.img
}
END
# Modules that update-grub's configuration asks for.
for platform in i386-pc x86_64-efi; do
    if [ -d "$root/usr/lib/grub/$platform" ]; then
        mkdir -p "$root/boot/grub/$platform"
        cp "$root/usr/lib/grub/$platform"/*.mod "$root/usr/lib/grub/$platform"/*.lst "$root/boot/grub/$platform/"
    fi
done

# Upgrades of GRUB install it, for a BIOS and for UEFI: grub-cloud-amd64 does so where this is there.
: >"$root/etc/grub.d/enable_cloud"

# --- where the seed is

cat >"$root/etc/cloud/cloud.cfg.d/90_image.cfg" <<END
# Which seeds this image takes, and in which order it looks for them.
datasource_list: [ $data_sources ]
locale: C.UTF-8
END
# Links come up as the seed says, or by DHCP.
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service

printf 'LANG=C.UTF-8\n' >"$root/etc/default/locale"
if [ -n "$locales" ]; then
    for locale in $locales; do
        printf '%s %s\n' "$locale" "${locale#*.}"
    done >"$root/etc/locale.gen"
    chroot "$root" locale-gen >/dev/null
fi

# --- nothing that is a machine's own

# Empty, not absent: systemd then makes one for each machine, and does not take the boot for an interactive first one.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
if [ -d "$root/var/lib/dbus" ]; then
    ln -s /etc/machine-id "$root/var/lib/dbus/machine-id"
fi
rm -f "$root"/etc/ssh/ssh_host_*
# ssl-cert makes a key when it is installed. Nothing of a fleet uses it, and no two machines should have the same.
rm -f "$root/etc/ssl/private/ssl-cert-snakeoil.key" "$root/etc/ssl/certs/ssl-cert-snakeoil.pem"
rm -f "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret"
rm -f "$root/etc/hostname" "$root/etc/.pwd.lock" "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# mmdebstrap's options: what apt does on the machine is for packages to say.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
rm -f "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"/0000*
# Options for this installation alone: no machine's dpkg should do without syncing.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
if [ -n "$sources" ]; then
    printf '%s\n' "$sources" >"$root/etc/apt/sources.list.d/debian.sources"
fi
# apt gives these directories to a user of its own when it first needs them.
rm -rf "$root/var/lib/cloud" "$root/var/lib/apt/lists" "$root/var/cache/apt" "$root/var/cache/man"
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
rm -f "$root/var/cache/ldconfig/aux-cache"
rm -f "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/etc/*-
# Emptied, not removed: packages make some with the owner that they want, and fail2ban does not start without its own.
find "$root/var/log" -type f -exec truncate --size=0 {} +
# A first boot would rebuild caches that are there; bookworm has no such program.
if [ -x "$root/usr/lib/systemd/systemd-update-done" ]; then
    chroot "$root" /usr/lib/systemd/systemd-update-done
fi
