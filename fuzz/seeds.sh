#!/bin/sh
# Fills fuzz/corpus/ with what the fuzzer begins from: the files of the tiny bundles under tests/bundles/.
set -eu
cd "$(dirname "$0")"
bundles=../tests/bundles
mkdir -p corpus/card corpus/onnx_header corpus/scheduler corpus/bundle

printf 'name = "a"\nversion = "1"\n[steps]\ntrained = [1, 4]\ndefault = 1\nlargest = 8\n[guidance]\ndefault = 1.5\n' >corpus/card/steps
printf 'name = "b"\n[size]\ndefault = [64, 64]\n[preview]\nlatent_to_rgb = [[0.1, 0.2, 0.3]]\n[lineage]\nparents = ["x"]\n' >corpus/card/size
printf 'name = "c"\n[sha256]\n"unet/model.onnx" = "%064d"\n' 0 >corpus/card/sums

for bundle in "$bundles"/*/; do
    name=$(basename "$bundle")
    cp "$bundle/scheduler/scheduler_config.json" "corpus/scheduler/$name"
    # Weights are skipped by the reader and only slow the fuzzer down: the ends of a file hold its frame.
    for model in "$bundle"/*/model.onnx; do
        role=$(basename "$(dirname "$model")")
        cp "$model" "corpus/onnx_header/$name-$role"
        head -c 2000 "$model" >"corpus/onnx_header/$name-$role-head"
    done
done

# The first byte of a seed for `bundle` names the file: its place in FILES.
place=0
for file in model_index.json kiln.toml scheduler/scheduler_config.json unet/config.json vae_decoder/config.json \
    text_encoder/model.onnx unet/model.onnx vae_encoder/model.onnx vae_decoder/model.onnx; do
    seed="corpus/bundle/$(echo "$file" | tr / -)"
    # shellcheck disable=SC2059
    printf "\\$(printf %o $place)" >"$seed"
    if [ "$file" = kiln.toml ]; then cat corpus/card/steps >>"$seed"; else cat "$bundles/sd/$file" >>"$seed"; fi
    place=$((place + 1))
done
