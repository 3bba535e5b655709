# What the scripts of this folder share; they source it. All that is fetched or built lies under target/cross, nothing is installed,
# and root is not needed. Afterwards the working folder is the repository's root: `absolute` first makes a caller's path independent of it.
# shellcheck shell=bash

set -euo pipefail
shopt -s inherit_errexit
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$PWD/target/cross
# The oldest glibc that a binary may ask for: the one that the pinned ONNX Runtime asks for.
# shellcheck disable=SC2034 # read by the scripts that source this file
glibc_floor=2.28

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# absolute PATH: the path as the caller meant it.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$caller/$1" ;; esac; }

# need COMMAND HOW: refuses to go on without a command.
need() { command -v "$1" >/dev/null || fail "$1 is missing; $2"; }

need_pip() { python3 -m pip --version >/dev/null 2>&1 || fail "python3 with pip is missing; on Debian: apt-get install python3-pip"; }

# offline WHAT: refuses to fetch where nothing may be fetched.
online() { [ "${KILN_OFFLINE:-0}" = 0 ] || fail "KILN_OFFLINE is set, so $1 is not fetched"; }

# triple_of ARCHITECTURE: from Debian's name to Rust's.
triple_of() {
    case $1 in
        arm64) echo aarch64-unknown-linux-gnu ;;
        amd64) echo x86_64-unknown-linux-gnu ;;
        *) fail "architecture '$1': expected amd64 or arm64" ;;
    esac
}

# runtime TRIPLE: fetches the pinned wheel of ONNX Runtime by its hash; prints the folder that it was unpacked to, with the library as
# libonnxruntime.so.
runtime() {
    local row package version platform library sha256 folder partial
    row=$(awk -v triple="$1" '$1 == triple' cross/onnxruntime.txt)
    [ -n "$row" ] || fail "cross/onnxruntime.txt has no row for $1"
    read -r _ package version platform library sha256 <<<"$row"
    folder=$work/runtime/$1-$version-${sha256:0:12}
    if [ ! -f "$folder/libonnxruntime.so" ]; then
        need_pip
        online "$package $version"
        partial=$folder.partial
        rm -rf "$partial" "$folder"
        mkdir -p "$partial"
        echo "$package==$version --hash=sha256:$sha256" >"$partial/requirements.txt"
        python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --disable-pip-version-check \
            --implementation cp --python-version 312 --abi cp312 --platform "$platform" \
            --dest "$partial" --requirement "$partial/requirements.txt" >&2 ||
            fail "pip could not fetch $package $version for $platform; the line above says why"
        python3 -m zipfile -e "$partial"/*.whl "$partial"
        mv -T "$partial/$library" "$partial/libonnxruntime.so"
        rm -f "$partial"/*.whl "$partial/requirements.txt"
        mv -T "$partial" "$folder"
    fi
    echo "$folder"
}

# apt COMMAND...: apt-get or apt-cache with lists of its own, of both architectures.
apt() {
    local command=$1
    shift
    "$command" -qq -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o "Dir::State::lists=$work/apt/lists" \
        -o "Dir::Cache=$work/apt/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@"
}

# apt_lists: fetches apt's lists, once a day.
apt_lists() {
    need apt-get "the scripts take what is missing from Debian"
    [ -z "$(find "$work/apt/fetched" -mtime -1 2>/dev/null)" ] || return 0
    online "the list of Debian's packages"
    mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
    apt apt-get update >&2 || fail "apt-get update failed; the lines above say why"
    touch "$work/apt/fetched"
}

# debian FOLDER PACKAGE[:arm64]...: unpacks Debian's packages into a folder, by apt's own signed lists, without installing them.
debian() {
    local folder=$1 package
    shift
    [ "$(cat "$folder/.packages" 2>/dev/null)" != "$*" ] || return 0
    apt_lists
    online "$*"
    rm -rf "$folder" "$folder.partial" "$folder.debs"
    mkdir -p "$folder.partial" "$folder.debs"
    (cd "$folder.debs" && apt apt-get download "$@" >&2) || fail "apt has not all of: $*"
    for package in "$folder.debs"/*.deb; do dpkg-deb -x "$package" "$folder.partial"; done
    rm -rf "$folder.debs"
    echo "$*" >"$folder.partial/.packages"
    mv -T "$folder.partial" "$folder"
}

# wrapper FILE LINE...: writes a small program.
wrapper() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    printf '%s\n' '#!/usr/bin/env bash' "$@" >"$file"
    chmod +x "$file"
}

# compiler_of_c TRIPLE: writes a C compiler and linker for the triple that keeps to the glibc floor, and `ar` beside it; prints the compiler's path.
compiler_of_c() {
    local zig=$work/zig file=$work/bin/$1-clang program
    if ! cmp -s cross/requirements.txt "$zig/requirements.txt"; then
        need_pip
        online "the linker"
        rm -rf "$zig" "$zig.partial"
        python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes --disable-pip-version-check \
            --root-user-action=ignore --target "$zig.partial" --requirement cross/requirements.txt >&2 ||
            fail "pip could not fetch ziglang, the linker; the line above says why"
        cp cross/requirements.txt "$zig.partial/requirements.txt"
        mv -T "$zig.partial" "$zig"
    fi
    program=$zig/ziglang/zig
    chmod +x "$program"
    # Rust tells by the name how a linker is spoken to. It says --target in its own words, which zig does not know.
    # shellcheck disable=SC2016 # the words of the program that is written
    wrapper "$file" 'arguments=()' \
        'for argument; do case $argument in --target=*) ;; *) arguments+=("$argument") ;; esac; done' \
        "$(printf 'exec %q cc -target %q "${arguments[@]}"' "$program" "${1/-unknown/}.$glibc_floor")"
    wrapper "$work/bin/zig-ar" "$(printf 'exec %q ar "$@"' "$program")"
    echo "$file"
}

# compiler_of_rust TRIPLE: prints a rustc that has the standard library for the triple: rustup's where it is installed, else Debian's.
compiler_of_rust() {
    local own prefix=$work/rust version packages
    own=$(command -v rustc) || true
    if [ -n "$own" ] && [ -d "$("$own" --print sysroot)/lib/rustlib/$1/lib" ]; then
        echo "$own"
        return
    fi
    [ "$1" = aarch64-unknown-linux-gnu ] || fail "no Rust standard library for $1; get it with: rustup target add $1"
    if [ ! -x "$prefix/rustc" ]; then
        apt_lists
        version=$(apt apt-cache show rustc-web | sed -n 's/^Version: \([0-9]*\.[0-9]*\).*/\1/p' | sort -V | tail -1)
        [ -n "$version" ] || fail "neither rustup's target $1 nor Debian's rustc-web is there; run: rustup target add $1"
        packages=$(apt apt-cache depends "libstd-rust-web-$version:amd64" | sed -n 's/.*Depends: \(libllvm[0-9]*\).*/\1/p')
        # shellcheck disable=SC2086 # names of packages
        debian "$prefix" rustc-web "libstd-rust-web-$version" libstd-rust-web-dev libstd-rust-web-dev:arm64 $packages
        wrapper "$prefix/rustc" "$(printf 'LD_LIBRARY_PATH=%q exec %q "$@"' "$prefix/usr/lib/x86_64-linux-gnu" "$prefix/usr/bin/rustc")"
    fi
    "$prefix/rustc" --version >/dev/null ||
        fail "Debian's rustc does not start here; it may want: apt-get install libedit2 libffi8 libxml2 libz3-4 libzstd1"
    echo "$prefix/rustc"
}

# build TRIPLE minimal|full, build TRIPLE min FEATURES: builds the binary for boards; prints its path.
build() {
    local triple=$1 upper rust c profile features=()
    case $2 in
        minimal) profile=min features=(--no-default-features --features minimal) ;;
        min) profile=min features=(--no-default-features --features "$3") ;;
        full) profile=dist ;;
        *) fail "build '$2': expected minimal, full or min" ;;
    esac
    need cargo "install Rust: the README's first section"
    upper=${triple^^} upper=${upper//-/_}
    rust=$(compiler_of_rust "$triple")
    c=$(compiler_of_c "$triple")
    # Kiln's own build script need not fetch a library: the scripts lay it. No path of this machine goes into the binary.
    env -u CARGO_TARGET_DIR -u RUSTFLAGS -u RUSTC_WRAPPER KILN_OFFLINE=1 RUSTC="$rust" \
        CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$PWD="$'\x1f'"--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
        "CARGO_TARGET_${upper}_LINKER=$c" "CC_${triple//-/_}=$c" "AR_${triple//-/_}=$work/bin/zig-ar" \
        cargo build --quiet --locked --bin kiln --profile "$profile" "${features[@]}" --target "$triple" --target-dir "$work/build" >&2
    echo "$work/build/$triple/$profile/kiln"
}

# glibc_of FILE: the newest glibc that a binary or a library asks for.
glibc_of() {
    need readelf "on Debian: apt-get install binutils"
    readelf --version-info --wide "$1" | sed -n 's/.*Name: GLIBC_\([0-9.]*\).*/\1/p' | sort -uV | tail -1
}

# check_elf FILE TRIPLE: refuses a file that does not load on every board.
check_elf() {
    local found machine
    case $2 in aarch64-*) machine=AArch64 ;; x86_64-*) machine=X86-64 ;; esac
    [[ $(readelf --file-header --wide "$1") == *"$machine"* ]] || fail "$1 is not a program for $2"
    found=$(glibc_of "$1")
    [ -n "$found" ] || fail "$1 names no version of glibc: is it a dynamic ELF file?"
    [ "$(printf '%s\n' "$found" "$glibc_floor" | sort -V | tail -1)" = "$glibc_floor" ] ||
        fail "$1 asks for glibc $found, expected $glibc_floor or older"
    echo "$(basename "$1"): $(stat -c %s "$1") bytes, glibc $found"
}

# emulator: unpacks the emulator of 64-bit ARM; prints its path.
emulator() {
    debian "$work/qemu" qemu-user-static
    echo "$work/qemu/usr/bin/qemu-aarch64-static"
}

# register_emulator: has the kernel start ARM programs with the emulator, so that such a program can start others. Leaves in `registered`
# what unregister_emulator takes away again; where it cannot be done, leaves the reason in `why` and fails.
registered=
register_emulator() {
    local table=/proc/sys/fs/binfmt_misc program
    if [ ! -e $table/register ] && ! mount -t binfmt_misc binfmt_misc $table 2>/dev/null; then
        why="this kernel registers no emulator, or not for this user"
        return 1
    fi
    if grep -qs '^interpreter .*aarch64' $table/*; then return 0; fi
    program=$(emulator)
    # The head of an ELF file for 64-bit ARM. F: opened now, so that it is there in any root.
    if ! printf ':kiln-aarch64:M::%s:%s:%s:F' \
        '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' \
        '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff' "$program" 2>/dev/null >$table/register; then
        # shellcheck disable=SC2034 # read by the scripts that source this file
        why="this machine lets no emulator be registered"
        return 1
    fi
    registered=$table/kiln-aarch64
}

unregister_emulator() {
    if [ -n "$registered" ]; then echo -1 >"$registered"; fi
}

# arm_cpuinfo FILE: writes what /proc/cpuinfo says on an ARM processor. ONNX Runtime reads there what the processor can do, and older
# emulators hand it the host's.
arm_cpuinfo() {
    cat >"$1" <<'FACTS'
processor	: 0
BogoMIPS	: 100.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
FACTS
}

# lay_models FOLDER: the bundles in the box, tracked files alone, all that their cards name.
lay_models() {
    local file
    need git "the files of the models are told from others by git"
    mkdir -p "$1"
    git ls-files -z -- 'models/*/*' ':!models/recipes' |
        while IFS= read -r -d '' file; do install -D -m 644 "$file" "$1/${file#models/}"; done
}
