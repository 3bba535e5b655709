#!/usr/bin/env bash
# Unpacks a Vulkan driver that draws on the processor (Mesa's lavapipe) into target/providers/lavapipe/, for the tests of WebGPU, and
# says why where it cannot be had. Nothing is installed: the packages that the system lacks are fetched and unpacked there. Debian
# on x86-64 only; Debian 12's own Mesa is too old for ONNX Runtime's WebGPU, so it is taken from the backports there.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p target/providers
folder=$(cd target/providers && pwd -P)/lavapipe
skip() { echo "skipped: lavapipe: $*"; exit 0; }

[ -s "$folder/icd.json" ] && exit 0
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the packages are for x86-64 Linux"
[ "${KILN_OFFLINE:-0}" = 0 ] || skip "KILN_OFFLINE is set, so Mesa was not fetched"
[ -r /etc/debian_version ] && command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "apt and dpkg are not there"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || skip "$keyring is not there"
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
suites="$codename"
if [ "$codename" = bookworm ]; then suites="bookworm bookworm-backports"; fi

rm -rf "$folder" && mkdir -p "$folder"/apt/{lists,archives,parts}/partial "$folder/root"
for suite in $suites; do
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main"
done >"$folder/apt/parts/debian.list"
options=(
    -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$folder/apt/parts" -o "APT::Sandbox::User=root"
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache::archives=$folder/apt/archives" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
)
apt-get "${options[@]}" -qq update >"$folder/log" 2>&1 || skip "the package lists cannot be fetched: $(tail -n 1 "$folder/log")"
apt-get "${options[@]}" -y --no-install-recommends --download-only -t "${suites##* }" install mesa-vulkan-drivers libvulkan1 \
    >"$folder/log" 2>&1 || skip "Mesa cannot be fetched: $(tail -n 1 "$folder/log")"
shopt -s nullglob
for package in "$folder"/apt/archives/*.deb; do dpkg -x "$package" "$folder/root"; done
rm -rf "$folder/apt"
libraries=usr/lib/x86_64-linux-gnu
for root in "$folder/root" ""; do
    [ -e "$root/$libraries/libvulkan_lvp.so" ] && driver=$root/$libraries/libvulkan_lvp.so && break
done
[ -n "${driver:-}" ] || skip "the packages hold no libvulkan_lvp.so"
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$driver" >"$folder/icd.json"
echo "fetched: lavapipe: $driver"
