set -eu
root=$1
# Before the kernel is installed, since that makes the initrd.

# The modules of disks that virtual machines have: with all there are the initrd is twice as large, and is unpacked at every boot.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
if [ "$kernel" = linux-image-cloud-amd64 ]; then
    printf '%s\n' '# The disks of virtual machines: /usr/share/initramfs-tools/modules.d/image' 'MODULES=list' \
        >"$root/etc/initramfs-tools/conf.d/image"
    printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod nvme ahci xen-blkfront hv_storvsc ext4 \
        >"$root/usr/share/initramfs-tools/modules.d/image"
fi
# With a root file system in fstab the initrd has its fsck.
printf '%s\n' 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"

# What nobody reads on a server, of packages that come later too (dpkg(1), path-exclude).
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
{
    printf '# What packages bring that nobody reads on a server.\n'
    printf '%s\n' "$excluded"
} >"$root/etc/dpkg/dpkg.cfg.d/image"
