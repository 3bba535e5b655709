#!/usr/bin/env bash
# Shows that making pictures needs no network: runs the tests of generation with the network cut off, and watches which connections a
# program in use tries to make.
#
#   cross/offline.sh [--release]      the tests should be built already: nothing can be fetched
#
# Where the machine allows no network namespace or has no strace, the script says "skipped: why" of that part.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=debug
[ "${1:-}" != --release ] || profile=release

if unshare --map-root-user --net true 2>/dev/null; then
    # Only the loopback link is there, and it is down.
    unshare --map-root-user --net bash -euo pipefail -c '
        if grep -vE "^ *lo:|\|" /proc/net/dev; then echo "the network is not cut off" >&2; exit 1; fi
        cargo test --offline --locked "$@" --test pictures --test families --test engine --test tiles
    ' offline "$@"
    echo "generation: the tests passed with the network cut off"
else
    echo "skipped: tests without a network: this machine allows no network namespace"
fi

if command -v strace >/dev/null; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    strace --follow-forks --quiet=all --trace=socket,connect --output="$folder/calls" \
        "target/$profile/kiln" generate "a smiling sun" --quiet --output "$folder/sun.png"
    [ -s "$folder/sun.png" ]
    if grep -E 'AF_INET|AF_INET6|AF_NETLINK' "$folder/calls"; then
        echo "kiln generate opened the sockets above, expected none" >&2
        exit 1
    fi
    echo "kiln generate: no socket of the internet was opened"
else
    echo "skipped: connections of kiln generate: strace is missing; on Debian: apt-get install strace"
fi
