#!/bin/sh
# Makes the sticker bundle from nothing: make.sh [smoke|cpu|gpu] [WORK] [OUTPUT]
set -eu
cd "$(dirname "$0")"
configuration=${1:-cpu}
work=${2:-work/$configuration}
output=${3:-$work/sticker}
python=${PYTHON:-python3}
# Threads that spin while they wait take the cores from whatever else runs on the machine.
export OMP_WAIT_POLICY=PASSIVE

if [ "$configuration" = smoke ]; then "$python" data.py --work "$work" --smoke; else "$python" data.py --work "$work"; fi
"$python" train_autoencoder.py --work "$work" --configuration "$configuration"
"$python" train_decoder.py --work "$work" --configuration "$configuration"
"$python" train_denoiser.py --work "$work" --configuration "$configuration"
"$python" export.py --work "$work" --output "$output"
"$python" sheet.py --bundle "$output" --output "$output/sheet.png"
"$python" export.py --work "$work" --output "$output" --card-only
