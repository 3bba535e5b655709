#!/usr/bin/env bash
# Runs the tests with other servers' own clients against `kiln serve`, and the fuzzing of its own interface by its own document; says
# "skipped: why" where they cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=target/clients
if ! cmp -s tests/clients/requirements.txt "$environment/installed.txt"; then
    if ! python3 -m venv --clear "$environment" || ! timeout 300 "$environment/bin/pip" install --quiet --requirement tests/clients/requirements.txt; then
        echo "tests with other servers' clients: skipped: the clients could not be installed"
        exit 0
    fi
    cp tests/clients/requirements.txt "$environment/installed.txt"
fi
timeout 600 "$environment/bin/python" -m pytest -p no:cacheprovider -q -rs tests/clients "$@"

# The client for JavaScript asks for Node 20, whose tests and checksums are the runner's.
modules=$PWD/target/clients-node
skip() { echo "tests with OpenAI's client for JavaScript: skipped: $1"; exit 0; }
command -v node >/dev/null || skip "node is missing"
command -v npm >/dev/null || skip "npm is missing"
node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 15) ? 0 : 1)' ||
    skip "node $(node --version) is older than 20.15"
if ! cmp -s tests/clients/package-lock.json "$modules/installed.json"; then
    rm -rf "$modules"
    mkdir -p "$modules"
    cp tests/clients/package.json tests/clients/package-lock.json "$modules/"
    (cd "$modules" && timeout 180 npm ci --ignore-scripts --no-audit --no-fund --silent) || skip "it could not be installed"
    cp tests/clients/package-lock.json "$modules/installed.json"
fi
NODE_CLIENTS=$modules timeout 300 node --test tests/clients/test_openai.mjs
