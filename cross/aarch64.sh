#!/usr/bin/env bash
# Builds Kiln for 64-bit ARM on x86-64 Debian or Ubuntu, and lays it with its ONNX Runtime and the models in the box into a folder that
# is copied to a board as it is.
#
#   cross/aarch64.sh [minimal|full]      target/cross/kiln-aarch64-<kind>
set -euo pipefail
. "$(dirname "$0")/tools.sh"

# A feature that slips into the minimal binary is seen by its size; cross/README.md says what each takes.
most_bytes=5100000

kind=${1:-minimal}
case $kind in minimal | full) ;; *) fail "'$kind': expected minimal or full" ;; esac
triple=$(triple_of arm64)
folder=$work/kiln-aarch64-$kind

library=$(runtime "$triple")
binary=$(build "$triple" "$kind")
check_elf "$binary" "$triple"
check_elf "$library/libonnxruntime.so" "$triple"

if [ "$kind" = minimal ]; then
    # What opens connections, what needs a C compiler, and what only a screen or a server has a use for.
    strangers=$(cargo tree --locked --no-default-features --features minimal --target "$triple" --edges normal --prefix none |
        grep -E '^(tokio|hyper|axum|reqwest|ureq|curl|rustls|native-tls|openssl|socket2|mio|rusqlite|viuer|indicatif) ' || true)
    [ -z "$strangers" ] || fail "the minimal binary holds what it should not: $strangers"
    bytes=$(stat -c %s "$binary")
    [ "$bytes" -le "$most_bytes" ] || fail "the minimal binary takes $bytes bytes, expected $most_bytes at most"
fi

rm -rf "$folder"
install -D -m 755 "$binary" "$folder/kiln"
install -m 644 "$library/libonnxruntime.so" LICENSE-MIT LICENSE-APACHE "$folder/"
install -m 644 "$library/onnxruntime/LICENSE" "$folder/LICENSE-onnxruntime"
install -m 644 "$library/onnxruntime/ThirdPartyNotices.txt" "$folder/NOTICES-onnxruntime"
lay_models "$folder/models"
echo "${folder#"$PWD/"}"
