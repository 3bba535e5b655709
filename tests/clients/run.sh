#!/usr/bin/env bash
# Runs the tests with other servers' own clients against `kiln serve`; says "skipped: why" where they cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=target/clients
if ! cmp -s tests/clients/requirements.txt "$environment/installed.txt"; then
    if ! python3 -m venv --clear "$environment" || ! timeout 180 "$environment/bin/pip" install --quiet --requirement tests/clients/requirements.txt; then
        echo "tests with other servers' clients: skipped: the clients could not be installed"
        exit 0
    fi
    cp tests/clients/requirements.txt "$environment/installed.txt"
fi
timeout 300 "$environment/bin/python" -m pytest -p no:cacheprovider -q -rs tests/clients "$@"
