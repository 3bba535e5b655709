#!/usr/bin/env bash
# Makes a Debian package of Kiln: the program, ONNX Runtime, the models in the box, manual pages and completions.
#
#   cross/deb.sh amd64|arm64 [PROGRAM]      target/cross/kiln_<version>_<architecture>.deb
#
# PROGRAM is a kiln that was built already; without it the full one is built for the oldest glibc. Manual and completions are written
# by a kiln that runs here: KILN, else target/release/kiln. They describe that one's verbs, so it should hold the same features.
set -euo pipefail
. "$(dirname "$0")/tools.sh"

architecture=${1:-}
triple=$(triple_of "$architecture")
need dpkg-deb "on Debian: apt-get install dpkg"
own=$(absolute "${KILN:-$PWD/target/release/kiln}")
[ -x "$own" ] || fail "$own, which writes the manual, is missing; cargo build --release makes it, and KILN names another"
if [ -n "${2:-}" ]; then program=$(absolute "$2"); else program=$(build "$triple" full); fi
[ -f "$program" ] || fail "$program is missing, expected a kiln built for $triple"
library=$(runtime "$triple")
case $(LC_ALL=C readelf --file-header --wide "$program") in
    *AArch64*) found=arm64 ;;
    *X86-64*) found=amd64 ;;
    *) fail "$program is no program for amd64 or arm64" ;;
esac
[ "$found" = "$architecture" ] || fail "$program is for $found, expected $architecture"

# The same commit makes the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-The Kiln authors} <${DEBEMAIL:-kiln@localhost}>"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | sed -n 1p)-1
root=$work/deb/$architecture
documents=$root/usr/share/doc/kiln
rm -rf "$root"
umask 022
mkdir -p "$root/DEBIAN" "$documents" "$root/usr/share/man/man1"

install -D -m 755 "$program" "$root/usr/bin/kiln"
install -D -m 644 "$library/libonnxruntime.so" "$root/usr/lib/kiln/libonnxruntime.so"
# What debuggers read alone. Without a tool for the architecture it stays: the package is larger then.
for strip in strip "${triple%%-*}-linux-gnu-strip"; do
    if "$strip" --strip-unneeded "$root/usr/bin/kiln" 2>/dev/null; then break; fi
done
lay_models "$root/usr/share/kiln/models"
models=$(find "$root/usr/share/kiln/models" -name kiln.toml | wc -l)
[ "$models" -ge 11 ] || fail "$models models would be packaged, expected 11 or more: is this a whole checkout?"

"$own" manual "$root/usr/share/man/man1"
gzip -9 -n "$root"/usr/share/man/man1/*
for row in bash:bash-completion/completions/kiln zsh:zsh/vendor-completions/_kiln fish:fish/vendor_completions.d/kiln.fish; do
    install -D -m 644 /dev/null "$root/usr/share/${row#*:}"
    "$own" completions "${row%%:*}" >"$root/usr/share/${row#*:}"
done

install -D -m 644 cross/kiln.service "$root/usr/lib/systemd/system/kiln.service"
install -m 644 "$library/onnxruntime/ThirdPartyNotices.txt" "$documents/NOTICES-onnxruntime"
gzip -9 -n "$documents/NOTICES-onnxruntime"
gzip -9 -n -c CHANGELOG.md >"$documents/changelog.gz"
printf 'kiln (%s) unstable; urgency=medium\n\n  * Of the commit %s; changelog.gz says what changed.\n\n -- %s  %s\n' \
    "$version" "$(git rev-parse --short HEAD)" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" |
    gzip -9 -n >"$documents/changelog.Debian.gz"
install -D -m 644 cross/lintian-overrides "$root/usr/share/lintian/overrides/kiln"
# What is linked into the program, with the licence that each crate names.
cargo tree --locked --offline --target "$triple" --edges normal --prefix none --format '{p} {l}' |
    sed -E 's/ \([^)]*\)( |$)/ /' | sort -u >"$documents/crates"
# The text of a licence as a paragraph of the copyright file takes it.
paragraph() { sed -e 's/[[:space:]]*$//' -e 's/^$/./' -e 's/^/ /' "$1"; }
{
    cat <<'TEXT'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: kiln
Comment: The file crates beside this one lists the crates that are linked into
 the program, with their licences.

Files: *
Copyright: 2026 The Kiln authors
License: Expat or Apache-2.0

Files: usr/lib/kiln/libonnxruntime.so
Copyright: Microsoft Corporation
License: Expat
Comment: The file NOTICES-onnxruntime.gz beside this one tells of what the
 library contains.
TEXT
    for card in models/*/kiln.toml; do
        licence=$(sed -n 's/^licence = "\(.*\)"/\1/p' "$card" | sed -n 1p)
        [ -n "$licence" ] || fail "$card names no licence"
        printf '\nFiles: usr/share/kiln/%s/*\nCopyright: The Kiln authors, and those whom its kiln.toml names\nLicense: %s\n' \
            "$(dirname "$card")" "${licence// AND / and }"
    done
    printf '\nLicense: Expat\n'
    paragraph LICENSE-MIT
    printf '\nLicense: Apache-2.0\n On Debian the text is in /usr/share/common-licenses/Apache-2.0.\n'
    printf '\nLicense: CC-BY-4.0\n The text is at https://creativecommons.org/licenses/by/4.0/legalcode.\n'
} >"$documents/copyright"
chmod 644 "$documents"/*

glibc=$(printf '%s\n' "$(glibc_of "$root/usr/bin/kiln")" "$(glibc_of "$library/libonnxruntime.so")" | sort -V | tail -n 1)
cat >"$root/DEBIAN/control" <<TEXT
Package: kiln
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: libc6 (>= $glibc), libgcc-s1, libstdc++6 (>= 8)
Section: graphics
Priority: optional
Description: makes pictures on the device itself, without a network
 One small program and ONNX Runtime turn a prompt or a picture into a picture,
 on a laptop, on a Jetson-class board or in a kiosk. The package holds models of
 its own, and runs diffusers exports of the Stable Diffusion line.
TEXT
# Nobody's service is switched on by installing; one that somebody switched on ends with the package.
cat >"$root/DEBIAN/prerm" <<'TEXT'
#!/bin/sh
set -e
if [ "$1" = remove ] && command -v systemctl >/dev/null; then
    if [ -d /run/systemd/system ]; then systemctl stop kiln.service || true; fi
    systemctl --quiet --no-reload disable kiln.service || true
fi
TEXT
chmod 755 "$root/DEBIAN/prerm"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

package=$work/kiln_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
rm -rf "$root"
echo "${package#"$PWD/"}: $(stat -c %s "$package") bytes, glibc $glibc, $models models"
