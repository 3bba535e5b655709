#!/usr/bin/env bash
# Says how many bytes the ARM binary takes with each feature. Every line is a build of its own, of minutes.
#
#   cross/sizes.sh [FEATURES]...      such as minimal,jpeg; without any: all that cross/README.md lists
set -euo pipefail
. "$(dirname "$0")/tools.sh"

triple=$(triple_of arm64)
if [ $# = 0 ]; then
    set -- cli minimal
    for feature in colour jpeg webp progress manual tune lineage terminal server; do set -- "$@" "minimal,$feature"; done
fi
for features; do
    binary=$(build "$triple" min "$features")
    printf '%9d bytes  %s\n' "$(stat -c %s "$binary")" "$features"
done
