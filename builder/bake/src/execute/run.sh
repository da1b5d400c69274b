set -eu
# Runs in namespaces of its own: mounts, processes, network, host name. Standard input: the seed's directory as a tar archive. Standard
# output: what came of it, as another. Arguments: a mount point, the tree's archive, the names of two interfaces; the repository's
# directory, host and port, each empty where there is none, and the program that serves it; behind --, the files that are asked for.
exec 3>&1 >&2
root=$1 tree=$2 private=$3 public=$4 repository=$5 host=$6 port=$7
shift 7
server=
while [ "$1" != -- ]; do
    server="$server '$(printf '%s' "$1" | sed "s/'/'\\\\''/g")'"
    shift
done
shift

mount -t tmpfs -o mode=755 none "$root"
tar --extract --numeric-owner --same-permissions --directory="$root" --file="$tree"
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp"
mount -t proc none "$root/proc"
mount -t sysfs -o ro none "$root/sys"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=755 none "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/shm" "$root/run/lock"

# A cable to each interface, with nobody at its other end.
ip link set lo up
hostname localhost
number=0
for interface in "$public" "$private"; do
    ip link add "$interface" type veth peer name "peer$number"
    ip link set "$interface" up
    ip link set "peer$number" up
    number=$((number + 1))
done
# Without an address that is not the loopback's, nothing is looked up (AI_ADDRCONFIG in getaddrinfo(3)). RFC 5737.
ip address add 192.0.2.1/24 dev "$private"

mkdir -p "$root/var/lib/cloud/seed" "$root/etc/cloud/cloud.cfg.d"
tar --extract --no-same-owner --directory="$root/var/lib/cloud/seed" --file=-
# As images have it; an image's own file comes later and has the last word.
cat >"$root/etc/cloud/cloud.cfg.d/80_check.cfg" <<END
datasource_list: [ ConfigDrive, NoCloud, None ]
locale: C.UTF-8
END
cat >"$root/etc/cloud/cloud.cfg.d/99_check.cfg" <<END
# There is no disk here.
growpart: { mode: 'off' }
resize_rootfs: false
END

if [ -n "$repository" ]; then
    printf '127.0.0.1\t%s\n' "$host" >>"$root/etc/hosts"
    eval "$server" --dir "'$(printf '%s' "$repository" | sed "s/'/'\\\\''/g")'" --listen "127.0.0.1:$port" &
    # apt asks, verifies and resolves as it does on a node, and stops before it installs.
    printf 'APT::Get::Simulate "true";\n' >"$root/etc/apt/apt.conf.d/00check"
else
    # Nothing to install from: the one module that would is left out.
    sed -i '/package[-_]update[-_]upgrade[-_]install/d' "$root/etc/cloud/cloud.cfg"
fi

# As the units of systemd call them, one after the other. How they end is in status.json.
# shellcheck disable=SC2016 # expanded in the tree
timeout --kill-after=10 600 env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" /bin/sh -c '
        cloud-init init --local
        cloud-init init
        cloud-init modules --mode=config
        cloud-init modules --mode=final
        :' </dev/null

cd "$root"
for file in run/cloud-init/status.json var/log/cloud-init.log var/log/cloud-init-output.log "$@"; do
    if [ -e "$file" ] || [ -L "$file" ]; then
        printf '%s\n' "$file"
    fi
done | tar --create --dereference --file=- --verbatim-files-from --files-from=- >&3
