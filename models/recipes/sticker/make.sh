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

if [ "$configuration" = smoke ]; then
    smoke=--smoke words=500 variants=3 judge=0.2 each=2
else
    smoke= words=45000 variants=10 judge=15 each=48
fi
"$python" data.py --work "$work" $smoke
"$python" train_autoencoder.py --work "$work" --configuration "$configuration"
"$python" train_decoder.py --work "$work" --configuration "$configuration"
"$python" compose.py --work "$work" --variants "$variants"
"$python" neighbours.py --work "$work" --words "$words"
"$python" train_denoiser.py --work "$work" --configuration "$configuration"
"$python" distil.py --work "$work" --configuration "$configuration" --method consistency
"$python" export.py --work "$work" --output "$output"
"$python" export.py --work "$work" --output "$output-fp16" --precision fp16
"$python" judge.py --work "$work" --minutes "$judge"
"$python" measure.py --work "$work" --bundle "$output" --bundle "$output-fp16" --teacher --variety --each "$each" --output "$work/measured.json"
"$python" sheet.py --bundle "$output" --output "$output/sheet.png"
"$python" export.py --work "$work" --output "$output" --card-only
