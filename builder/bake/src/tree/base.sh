set -eu
root=$1
# Sources of the building machine, which are no machine's that boots from this.
rm -f "$root/etc/apt/sources.list"
rm -rf "$root/etc/apt/sources.list.d"
mkdir "$root/etc/apt/sources.list.d"
