# Functions by which a machine is changed; a call to `main` follows. Run as root by `sh -s`, with the program on its
# standard input: what it holds is on no command line and in no file. Nothing runs before the last line has arrived.
# Each function leaves `result` as "changed" when it changed something.

set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset LANGUAGE
umask 022
result=unchanged

# make_directory PATH MODE: with its parents, for everybody to enter; an existing one stays as it is.
make_directory() {
    if [ ! -d "$1" ]; then
        mkdir -p "${1%/*}/"
        mkdir -m "$2" "$1"
    fi
}

# place TEMPORARY PATH: what stands at PATH is the old file or the new one at any time, also after a power failure.
place() {
    if [ -f "$2" ] && [ ! -L "$2" ] && cmp -s "$1" "$2" &&
        [ "$(stat -c '%a %u:%g' "$1")" = "$(stat -c '%a %u:%g' "$2")" ]; then
        rm -f "$1"
        return
    fi
    sync "$1"
    mv -fT "$1" "$2"
    sync "${2%/*}"
    result=changed
}

# temporary PATH: sets `temp` to an empty file beside PATH that root alone may read and that does not survive the program.
temporary() {
    temp=$(mktemp "${1%/*}/.rolesmith-tmp-XXXXXX")
    trap 'rm -f "$temp"' EXIT
    trap 'exit 1' HUP INT TERM
}

# put_file PATH MODE OWNER DIRECTORY-MODE: its content is what the function `bytes` writes. A file that is as it is to be
# costs its directory not even a time stamp.
put_file() {
    if [ -f "$1" ] && [ ! -L "$1" ] && bytes | cmp -s - "$1"; then
        # The owner may be given by name or by number.
        case $(stat -c '%04a %U:%G %04a %u:%g' "$1") in
            "$2 $3 "* | *" $2 $3") return ;;
        esac
    fi
    make_directory "${1%/*}" "$4"
    temporary "$1"
    bytes >"$temp"
    chown "$3" "$temp"
    chmod "$2" "$temp"
    place "$temp" "$1"
}

# put_key FILE LINE KEY: adds a line to authorized_keys unless the key stands there in some line.
put_key() {
    make_directory "${1%/*}" 0700
    if [ -f "$1" ] && grep -qF -e "$3" "$1"; then
        return
    fi
    temporary "$1"
    if [ -s "$1" ]; then
        # With a line break at the end, whether it had one or not.
        awk 1 "$1" >"$temp"
        chown --reference="$1" "$temp"
        chmod --reference="$1" "$temp"
    fi
    printf '%s\n' "$2" >>"$temp"
    place "$temp" "$1"
}

# rename_host NAME FQDN HOSTS-FILE: also in /etc/hosts, where Debian's installer puts a machine's own name (127.0.1.1).
rename_host() {
    if [ "$(uname -n | cut -d. -f1)" != "$1" ]; then
        # As hostname(1) and hostname(5) have it; hostnamectl(1) would need a bus.
        printf '%s\n' "$1" >/etc/hostname
        hostname "$1"
        result=changed
    fi
    if awk -v name="$1" '$1 !~ /^#/ { for (i = 2; i <= NF; i++) if ($i == name) found = 1 } END { exit !found }' "$3"; then
        return
    fi
    temporary "$3"
    awk -v line="127.0.1.1 $2 $1" '
        $1 == "127.0.1.1" && !done { print line; done = 1; next }
        { print }
        END { if (!done) print line }' "$3" >"$temp"
    chown --reference="$3" "$temp"
    chmod --reference="$3" "$temp"
    place "$temp" "$3"
}

# mask_unit DIRECTORY UNIT MARKS: so that the package's own instance does not start when the package is installed. The mark
# tells the role's package, whose purge lifts the mask, that nobody else made it.
mask_unit() {
    if [ -e "$1/$2" ] || [ -L "$1/$2" ]; then
        return
    fi
    mkdir -p "$3"
    : >"$3/$2"
    ln -s /dev/null "$1/$2"
    systemctl daemon-reload
    result=changed
}

# answer PACKAGE QUESTION VALUE LINE: what debconf has to say for a package that is installed later.
answer() {
    if [ "$(debconf-show "$1" | sed -n "s|^[* ] $2: ||p")" != "$3" ]; then
        printf '%s\n' "$4" | debconf-set-selections
        result=changed
    fi
}

# update_lists PACKAGE...: reads the repositories, and makes sure that they have the packages.
update_lists() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update
    result=changed
    for package in "$@"; do
        if ! apt-cache show "$package" >/dev/null 2>&1; then
            echo "apt does not find $package: is the fleet published where its repository's url says, and does this machine reach it?" >&2
            exit 1
        fi
    done
}

# install_packages PACKAGE...: in a unit of its own, which a broken connection does not end.
install_packages() {
    systemd-run --quiet --wait --collect --pipe --unit=rolesmith-enroll-install.service \
        --setenv=DEBIAN_FRONTEND=noninteractive --setenv=NEEDRESTART_MODE=l \
        apt-get -q -y -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
    result=changed
}

# poke: the agent looks at what changed.
poke() {
    if command -v rolesmith-agent >/dev/null; then
        rolesmith-agent poke
        result=changed
    fi
}
