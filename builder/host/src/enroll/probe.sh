# Tells what this machine is and does. It reads and changes nothing.
#
# Run as root by `sh -s`, with the program on its standard input: nothing is stored on the machine. Each section begins
# with "== name"; the lines of its body are indented by a space, so that no text of the machine can look like a section.
# A program that is missing leaves its section empty. Everything is in a function: an interrupted transfer runs nothing.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
unset LANGUAGE

section() {
    name=$1
    shift
    echo "== $name"
    "$@" 2>/dev/null </dev/null | sed 's/^/ /'
}

os() {
    (
        # shellcheck disable=SC1091
        . /etc/os-release
        echo "id $ID"
        echo "suite ${VERSION_CODENAME-}"
    )
    echo "architecture $(dpkg --print-architecture)"
    if [ -d /run/systemd/system ]; then echo "systemd yes"; fi
    echo "hostname $(uname -n)"
    echo "time $(date +%s)"
    echo "synchronised $(timedatectl show --property NTPSynchronized --value)"
    echo "memory $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
    echo "forwarding $(cat /proc/sys/net/ipv4/ip_forward)"
    echo "login ${SUDO_USER-$(id -un)}"
}

# dpkg holds a POSIX lock, which flock(1) does not see; the kernel's list names it by its inode (proc_locks(5)).
dpkg_lock() {
    for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock; do
        [ -e "$lock" ] || continue
        awk -v inode="$(stat -c %i "$lock")" '$2 == "POSIX" {
            count = split($6, parts, ":")
            if (parts[count] == inode) { print $5; exit }
        }' /proc/locks
    done
}

units() {
    systemctl list-units --type=service,socket,timer --state=active --no-legend --plain --no-pager |
        awk '{ print "active", $1 }'
    systemctl list-unit-files --type=service,socket,timer --no-legend --no-pager |
        awk '{ print $2, $1 }'
}

ssh_server() {
    sshd -T | grep -E '^(port|listenaddress|permitrootlogin|passwordauthentication|kbdinteractiveauthentication|pubkeyauthentication|authorizedkeysfile|allowusers|allowgroups|denyusers|denygroups) '
    grep -iE '^[[:space:]]*include[[:space:]]' /etc/ssh/sshd_config
}

# Accounts that could log in by ssh, and with what: name, uid, password or none, keys or none.
accounts() {
    pattern=$(sshd -T | sed -n 's/^authorizedkeysfile //p')
    getent passwd | while IFS=: read -r name _ uid _ _ home shell; do
        case $shell in
            */nologin | */false | */sync | "") continue ;;
        esac
        password=none
        hash=$(getent shadow "$name" | cut -d: -f2)
        case $hash in
            '' | '!'* | '*'*) ;;
            *) password=password ;;
        esac
        keys=none
        for file in ${pattern:-.ssh/authorized_keys}; do
            file=$(printf '%s\n' "$file" | sed "s|%h|$home|g; s|%u|$name|g; s|%U|$uid|g; s|%%|%|g")
            case $file in
                /*) ;;
                *) file=$home/$file ;;
            esac
            if [ -f "$file" ] && grep -qE '^[[:space:]]*[^#[:space:]]' "$file"; then keys=keys; fi
        done
        echo "$name $uid $password $keys"
    done
}

# Clusters as pg_lsclusters lists them, each with the number of databases that somebody made in it: those have an object
# id of 16384 or more (access/transam.h).
clusters() {
    pg_lsclusters --no-header | while read -r version name port status owner data _; do
        count=$(find "$data/base" -mindepth 1 -maxdepth 1 -printf '%f\n' | awk '$1 >= 16384' | wc -l)
        echo "$version $name $port ${status%%,*} $owner $count $data"
    done
}

# What nginx listens on, by the files that are in use. Debian's own default site does not count while it is unchanged.
nginx_sites() {
    default=$(dpkg-query -W -f '${Conffiles}\n' nginx-common | awk '$1 == "/etc/nginx/sites-available/default" { print $2 }')
    for file in /etc/nginx/nginx.conf /etc/nginx/conf.d/*.conf /etc/nginx/sites-enabled/*; do
        [ -f "$file" ] || continue
        case $file in
            */conf.d/rolesmith*) continue ;;
        esac
        [ "$(md5sum <"$file" | cut -d' ' -f1)" != "$default" ] || continue
        sed -n 's/^[[:space:]]*listen[[:space:]]\{1,\}\([^;]*\);.*/\1/p' "$file" | while read -r listen; do
            echo "$file $listen"
        done
    done
}

# The first line of a configuration tells whether the role mail made it.
mail() {
    if [ -s /etc/postfix/main.cf ] && ! head -n 1 /etc/postfix/main.cf | grep -q '^# Made by rolesmith '; then echo postfix; fi
}

# Packet filters. iptables-save of either kind shows what is loaded and loads nothing.
filters() {
    ufw status | sed -n 's/^Status: /ufw /p'
    iptables-save | sed -n -e 's/^-A /rule /p' -e 's/^:\([^ ]*\) DROP.*/drop \1/p' | head -n 500
    if nft list ruleset | grep -v -e iptables -e ip6tables | grep -q 'hook input'; then echo "nft input"; fi
}

managers() {
    for directory in /etc/puppet /etc/puppetlabs /etc/salt /etc/chef /var/lib/cfengine3; do
        if [ -d "$directory" ]; then echo "directory $directory"; fi
    done
    grep -rls ansible-pull /etc/crontab /etc/cron.d /etc/cron.daily /etc/cron.hourly /var/spool/cron /etc/systemd/system |
        sed 's/^/ansible-pull /'
}

identity() {
    cat /etc/rolesmith/node.json
}

disks() {
    for directory in / /usr /var /boot; do
        df -Pk "$directory" | awk -v directory="$directory" 'NR == 2 { print directory, $4, $6 }'
    done
}

# What stands in single quotes with a dollar sign is dpkg's and apt's own notation.
# shellcheck disable=SC2016
main() {
    echo "== begin"
    if [ "$(id -u)" != 0 ]; then
        echo "== not-root"
        echo "== end"
        return
    fi
    section os os
    section disks disks
    section addresses ip -o addr show
    section dpkg-lock dpkg_lock
    section dpkg-audit dpkg --audit
    section packages dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n'
    section units units
    section sshd ssh_server
    section accounts accounts
    section tcp ss -H -ltnp
    section udp ss -H -lunp
    section clusters clusters
    section nginx nginx_sites
    section mail mail
    section filters filters
    section managers managers
    section identity identity
    section sources apt-get indextargets --format '$(SOURCESENTRY) $(REPO_URI)' 'Created-By: Packages'
    echo "== end"
}

main
