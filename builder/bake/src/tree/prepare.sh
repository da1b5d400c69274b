set -eu
root=$1
# As a seed does on a fresh machine before it installs anything: the roles run their own instances of these. The marks are those of
# the roles' own preinst, by which their purge knows what to lift.
for unit in $masked; do
    mkdir -p "$root/var/lib/rolesmith/masks" "$root/etc/systemd/system"
    ln -sfT /dev/null "$root/etc/systemd/system/$unit"
    : >"$root/var/lib/rolesmith/masks/$unit"
done
if [ -n "$debconf" ]; then
    printf '%s\n' "$debconf" | chroot "$root" debconf-set-selections
fi
