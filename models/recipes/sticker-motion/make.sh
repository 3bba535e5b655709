#!/bin/sh
# Makes the bundle of clips from the sticker bundle: make.sh [smoke|cpu|gpu] [WORK] [OUTPUT]
set -eu
cd "$(dirname "$0")"
configuration=${1:-cpu}
work=${2:-work/$configuration}
output=${3:-$work/sticker-motion}
python=${PYTHON:-python3}
# Threads that spin while they wait take the cores from whatever else runs on the machine.
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

if [ "$configuration" = smoke ]; then
    smoke=--smoke each=1
else
    smoke= each=24
fi
# shellcheck disable=SC2086 # an option, or nothing
"$python" ../sticker/data.py --work "$work/sticker" $smoke
"$python" train_conductor.py --work "$work" --configuration "$configuration"
"$python" bundle.py --work "$work" --output "$output"
"$python" watcher.py --work "$work" --configuration "$configuration"
"$python" measure.py --work "$work" --bundle "$output" --each "$each" --output "$work/measured.json"
"$python" film.py --bundle "$output" --output "$output"
"$python" bundle.py --work "$work" --output "$output" --card-only
