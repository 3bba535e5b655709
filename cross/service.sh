#!/usr/bin/env bash
# Checks the systemd unit: that systemd understands every line, and how exposed it says the service is.
#
#   cross/service.sh PROGRAM      PROGRAM is a kiln that was built, which stands for /usr/bin/kiln
#
# Nothing is started. Where the machine has no systemd-analyze, Debian's is unpacked under target/cross.
set -euo pipefail
. "$(dirname "$0")/tools.sh"

# As systemd counts, in tenths; cross/README.md says what the rest is made of.
most_exposed=14

[ -n "${1:-}" ] || fail "expected a kiln that was built"
program=$(absolute "$1")
[ -x "$program" ] || fail "$program is missing"
analyze=(systemd-analyze)
if ! command -v systemd-analyze >/dev/null; then
    debian "$work/systemd" systemd libsystemd-shared
    export SYSTEMD_UNIT_PATH="$work/systemd/lib/systemd/system:$work/systemd/usr/lib/systemd/system:"
    LD_LIBRARY_PATH=$(find "$work/systemd" -name 'libsystemd-shared*' -printf '%h\n' | sed -n 1p)
    analyze=(env "LD_LIBRARY_PATH=$LD_LIBRARY_PATH" "$work/systemd/usr/bin/systemd-analyze")
fi
"${analyze[@]}" --version >/dev/null || fail "systemd-analyze does not start here; on Debian: apt-get install systemd"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed "s|^ExecStart=/usr/bin/kiln |ExecStart=$program |" cross/kiln.service >"$folder/kiln.service"
grep -qF "ExecStart=$program " "$folder/kiln.service" || fail "cross/kiln.service does not start /usr/bin/kiln"
# It warns of what it passes over, and still ends with 0.
said=$("${analyze[@]}" verify --man=no "$folder/kiln.service" 2>&1) || fail "$said"
[ -z "$said" ] || fail "$said"
said=$("${analyze[@]}" security --offline=true --threshold="$most_exposed" --no-pager "$folder/kiln.service" 2>&1) ||
    fail "more exposed than $most_exposed tenths: $(grep -v '✓' <<<"$said")"
sed -n 's/^→ Overall exposure level for \([^:]*\): \([0-9.]*\).*/\1: systemd understands it, exposure \2 of 10/p' <<<"$said"
