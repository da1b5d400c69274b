# Sourced in the checkout's directory by the programs that build packages: no path of the machine that builds gets into a
# program, so that the same sources give the same program anywhere and nothing is told about the builder's account.
# shellcheck shell=sh

cargo_home=${CARGO_HOME:-$HOME/.cargo}
# Directories of registries exist once something was fetched from them.
cargo fetch --quiet --locked

# Of two prefixes that fit, the later one counts. Flags may hold blanks, so they are separated by a character that paths lack.
separator=$(printf '\037')
flags=
remap() {
    flags="$flags${flags:+$separator}--remap-path-prefix=$1=$2"
}
remap "$cargo_home" /usr/share/cargo
for registry in "$cargo_home"/registry/src/*/; do
    remap "${registry%/}" /usr/share/cargo/registry
done
remap "$(rustc --print sysroot)/lib/rustlib/src/rust" /usr/src/rust
remap "$PWD" /usr/src/rolesmith
unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$flags
# The C libraries that are linked in.
CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=/usr/share/cargo -ffile-prefix-map=$PWD=/usr/src/rolesmith"
export CARGO_ENCODED_RUSTFLAGS CFLAGS

# Fails when a program names a place of this machine: check_paths PROGRAM
check_paths() {
    for place in "$cargo_home/" "$PWD/" "$(basename "$registry")" "$(rustc --print sysroot)/"; do
        if LC_ALL=C grep -a -q -F -e "$place" "$1"; then
            echo "$1 names $place, which is of this machine alone" >&2
            return 1
        fi
    done
}
