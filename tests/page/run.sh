#!/usr/bin/env bash
# Runs the tests of the page; says "skipped: why" where there is no Chromium to run them in, which is a failure where CI is true. See README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    echo "tests of the page: skipped: $1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

chromium=${CHROMIUM:-$(command -v chromium || command -v google-chrome || true)}
if [ -z "$chromium" ] && [ "${CI:-}" = true ]; then
    timeout 600 bash -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium' >/dev/null || true
    chromium=$(command -v chromium || true)
fi
if [ -z "$chromium" ]; then
    skip "there is no Chromium here, and none could be installed"
fi
environment=target/page
if ! cmp -s tests/page/requirements.txt "$environment/installed.txt"; then
    if ! python3 -m venv --clear "$environment" || ! timeout 180 "$environment/bin/pip" install --quiet --requirement tests/page/requirements.txt; then
        skip "Playwright could not be installed"
    fi
    cp tests/page/requirements.txt "$environment/installed.txt"
fi
if [ -z "${KILN:-}" ] && [ "${CI:-}" = true ]; then
    skip "KILN names no binary to run them against"
fi
# A line for each test, so that a log says what was run, and against what.
run() { CHROMIUM=$chromium "$environment/bin/python" -m pytest -o cache_dir="$PWD/$environment/cache" --verbose -rs --durations=5 tests/page "$@"; }
# A browser on a busy machine is late now and then: what failed is run once more by itself, and must pass there.
run "$@" || { echo "tests of the page: what failed is run once more"; run --last-failed "$@"; }
