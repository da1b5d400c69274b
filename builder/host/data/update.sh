#!/bin/sh
# Writes <suite>.names.zst: the names of Debian's binary packages (main; amd64 and all), one a line, sorted by bytes, and
# the virtual packages that they provide (Policy 3.6) with a leading "~". Before zstd each line is front coded: its first
# character stands for how much of the line before it shares ("!" for nothing, then up the ASCII table).
#
#   update.sh [SUITE...]      default: bookworm trixie
#
# apt does the fetching and verifying, in a private root, from the mirror that this machine itself uses. Names change
# when Debian makes a point release at most, so this is run before a release of rolesmith, not in its build.
# $(NAME) in quotes is apt's own notation.
# shellcheck disable=SC2016
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
if [ -z "$mirror" ]; then
    echo "update.sh: this machine's apt knows no Debian mirror; run apt-get update first" >&2
    exit 1
fi

[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do
    dir=$root/$suite
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/etc/apt.conf.d" "$dir/etc/preferences.d"
    : >"$dir/status"
    cat >"$dir/etc/sources.list" <<EOF
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main
EOF
    # The machine's own configuration is not read: it may switch off the checks of dates, or ask for further indexes.
    cat >"$dir/apt.conf" <<EOF
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "true";
Acquire::Check-Date "true";
Acquire::Languages "none";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "$dir/etc/preferences.d";
Dir::Etc::main "-";
Dir::Etc::parts "$dir/etc/apt.conf.d";
EOF
    APT_CONFIG=$dir/apt.conf apt-get -q update
    APT_CONFIG=$dir/apt.conf apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' |
        while read -r index; do /usr/lib/apt/apt-helper cat-file "$index"; done |
        awk '
            /^Package: / { real[$2] = 1 }
            /^Provides: / {
                sub(/^Provides: /, "")
                count = split($0, provided, /, */)
                for (i = 1; i <= count; i++) {
                    # "name (= 1.0)" and "name:any" provide name.
                    sub(/[ :(].*/, "", provided[i])
                    if (provided[i] != "") virtual[provided[i]] = 1
                }
            }
            END {
                for (name in real) print name
                for (name in virtual) if (!(name in real)) print "~" name
            }' |
        LC_ALL=C sort >"$dir/names"
    count=$(grep -vc '^~' "$dir/names")
    if [ "$count" -lt 50000 ]; then
        echo "update.sh: only $count packages in $suite; nothing written" >&2
        exit 1
    fi
    awk '{
            limit = length(before) < length($0) ? length(before) : length($0)
            if (limit > 93) limit = 93
            shared = 0
            while (shared < limit && substr(before, shared + 1, 1) == substr($0, shared + 1, 1)) shared++
            printf "%c%s\n", 33 + shared, substr($0, shared + 1)
            before = $0
        }' "$dir/names" >"$dir/coded"
    zstd -q --ultra -22 --no-check -f "$dir/coded" -o "$dir/names.zst"
    mv "$dir/names.zst" "$here/$suite.names.zst"
    echo "$suite: $count packages, $(grep -c '^~' "$dir/names") virtual ones"
done
