#!/usr/bin/env bash
# Runs the ARM build and compares a picture with one of this machine: under emulation, or on a real board.
#
#   cross/smoke.sh [--ssh HOST] [FOLDER]      FOLDER: what cross/aarch64.sh laid
#
# KILN names this machine's own binary; else target/release/kiln is taken.
set -euo pipefail
here=$(dirname "$0")
. "$here/tools.sh"

# Two processors round sums in their own order; a picture may differ by so many of 255.
tolerance=2
seed=7

host=
if [ "${1:-}" = --ssh ]; then
    host=${2:?--ssh wants a host, such as --ssh pi@raspberrypi.local}
    shift 2
fi
folder=$(absolute "${1:-$work/kiln-aarch64-minimal}")
[ -x "$folder/kiln" ] || fail "$folder/kiln is missing; cross/aarch64.sh lays it"
own=${KILN:-$PWD/target/release/kiln}
own=$(absolute "$own")
difference=$(dirname "$own")/examples/difference
[ -x "$own" ] && [ -x "$difference" ] ||
    fail "$own or $difference is missing; 'cargo build --release --bin kiln --examples' makes both, and KILN names another kiln"

pictures=$(mktemp -d)
there=
# shellcheck disable=SC2329
clean() {
    rm -rf "$pictures"
    unregister_emulator
    if [ -n "$there" ]; then ssh "$host" "rm -rf '$there'"; fi
}
trap clean EXIT

if [ -n "$host" ]; then
    step "copying to $host"
    there=$(ssh "$host" mktemp -d)
    scp -q -r "$folder/." "$host:$there/"
    board() { ssh "$host" "cd '$there' && ./kiln $(printf '%q ' "$@")"; }
else
    step "an ARM system to run it in"
    root=$work/arm-root
    debian "$root" libc6:arm64 libstdc++6:arm64 libgcc-s1:arm64
    qemu=$(emulator)
    mkdir -p "$root/proc"
    arm_cpuinfo "$root/proc/cpuinfo"
    board() { (cd "$folder" && QEMU_LD_PREFIX=$root "$qemu" ./kiln "$@"); }
fi
unset ORT_DYLIB_PATH KILN_MODELS

# expect TEXT COMMAND...: the board's answer has the text.
expect() {
    local text=$1 answer
    shift
    answer=$(board "$@") || fail "kiln $* failed on the board"
    grep -qF -- "$text" <<<"$answer" || fail "kiln $* says nothing of '$text': $answer"
    echo "kiln $*: says '$text'"
}

step "it runs"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
expect "kiln $version" --version
expect "onnxruntime $(awk '$1 == "aarch64-unknown-linux-gnu" { print $3 }' cross/onnxruntime.txt)" --version
expect sticker models
expect 32x32 inspect gan
# The doctor asks processes of its own, which the emulator alone does not start.
why=
if [ -n "$host" ] || register_emulator; then
    expect "can generate: on cpu" doctor
else
    echo "skipped: kiln doctor: $why"
fi
expect decoder plan "a smiling sun" --model sticker
if board generate heart --model gan --steps 0 --output - >"$pictures/refused" 2>&1; then fail "kiln took --steps 0 on the board"; fi
grep -qF "steps: is 0" "$pictures/refused" || fail "kiln refuses --steps 0 and does not say so: $(cat "$pictures/refused")"

# same_picture WORD...: makes a picture here and there, and compares the two.
same_picture() {
    local arguments=(generate "$@" --seed "$seed" --threads 1 --quiet --output -)
    step "kiln ${arguments[*]}"
    board "${arguments[@]}" >"$pictures/board.png" || fail "kiln ${arguments[*]} failed on the board"
    KILN_MODELS=$folder/models "$own" "${arguments[@]}" >"$pictures/own.png"
    "$difference" "$pictures/board.png" "$pictures/own.png" "$tolerance"
}
same_picture heart --model gan
same_picture "a smiling sun" --model sticker
