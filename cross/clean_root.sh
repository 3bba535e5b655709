#!/usr/bin/env bash
# Installs a package of Kiln in a clean Debian root, uses it with the network cut off, and removes it: nothing may stay behind.
#
#   cross/clean_root.sh PACKAGE.deb
#
# Root is needed (chroot, mount), and mmdebstrap; where the machine does not allow it, the script says "skipped: why" and ends with 0.
# A package for arm64 runs under emulation on another machine, if the kernel lets an emulator be registered. SUITE names another
# release of Debian.
set -euo pipefail
. "$(dirname "$0")/tools.sh"

skip() {
    echo "skipped: clean root: $*"
    exit 0
}

[ -n "${1:-}" ] || fail "expected a package, as cross/deb.sh makes it"
package=$(absolute "$1")
[ -f "$package" ] || fail "$package is missing"
architecture=$(dpkg-deb --field "$package" Architecture)
version=$(dpkg-deb --field "$package" Version)
own=$(dpkg --print-architecture)
[ "$architecture" = "$own" ] || [ "$architecture" = arm64 ] || skip "the package is for $architecture, this machine is $own"
[ "$(id -u)" = 0 ] || skip "making a root needs root"
unshare --mount --net --pid --fork true 2>/dev/null || skip "this machine allows no namespaces of its own"
command -v mmdebstrap >/dev/null || skip "mmdebstrap is missing; on Debian: apt-get install mmdebstrap"

root=$work/clean-root/$architecture
rm -rf "$root"
mkdir -p "${root%/*}"
# shellcheck disable=SC2329
clean() {
    rm -rf "$root" "$root".{before,after,said,cpuinfo}
    unregister_emulator
}
trap clean EXIT
cpuinfo=
if [ "$architecture" != "$own" ]; then
    register_emulator || skip "$why"
    cpuinfo=$root.cpuinfo
    arm_cpuinfo "$cpuinfo"
fi
step "a clean root: Debian ${SUITE:-bookworm}, $architecture"
mmdebstrap --quiet --mode=root --skip=check/qemu --architectures="$architecture" --variant=minbase --include=man-db "${SUITE:-bookworm}" "$root" ||
    fail "mmdebstrap made no root; the lines above say why"
cp "$package" "$root/kiln.deb"
mkdir -p "$root/visitor" && chmod 1777 "$root/visitor"

# What follows runs without a network and with mounts that end with it.
export root version cpuinfo
unshare --mount --net --pid --fork bash "$PWD/cross/clean_root_inside.sh"
echo "$(basename "$package"): installed, used without a network, and removed with nothing left behind"
