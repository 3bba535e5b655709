#!/usr/bin/env bash
# Fetches the libraries of cross/providers.txt into target/providers/, each into a folder of its provider's name, and says of each
# that cannot be had why. x86-64 Linux only; tests/cli/providers.rs runs what is there. With KILN_OFFLINE=1 nothing is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=target/providers
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "skipped: the pinned libraries are for x86-64 Linux"; exit 0; }
mkdir -p "$cache"
grep -vE '^(#|[[:space:]]*$)' cross/providers.txt | while read -r provider package version platform file sha256; do
    folder=$cache/$provider
    if [ -e "$folder/$file" ] && [ "$(cat "$folder/version" 2>/dev/null)" = "$version $sha256" ]; then
        continue
    fi
    if [ "${KILN_OFFLINE:-0}" != 0 ]; then
        echo "skipped: $provider: KILN_OFFLINE is set, so $package was not fetched"
        continue
    fi
    rm -rf "$folder" && mkdir -p "$folder"
    printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$folder/requirements.txt"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 312 --abi cp312 --platform "$platform" \
        --dest "$folder" --requirement "$folder/requirements.txt" 2>"$folder/error.txt"; then
        echo "skipped: $provider: $package $version cannot be fetched: $(tail -n 1 "$folder/error.txt")"
        continue
    fi
    python3 -m zipfile -e "$folder"/*.whl "$folder"
    rm -f "$folder"/*.whl
    echo "$version $sha256" >"$folder/version"
    echo "fetched: $provider: $package $version"
done
