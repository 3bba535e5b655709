#!/bin/sh
# Makes the bundles of the small families from nothing: make.sh [smoke|cpu] [FAMILY...]
# Checkpoints and bundles go under work/CONFIGURATION; WORK in the environment names another place.
set -eu
cd "$(dirname "$0")"
configuration=${1:-cpu}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- judge real vae gan flow ddpm cnf score progressive consistency
work=${WORK:-work/$configuration}
output=${OUTPUT:-$work/bundles}
python=${PYTHON:-python3}
# Threads that spin while they wait take the cores from whatever else runs; memory that is given back to the system after
# every tensor is asked for again at the next.
export OMP_WAIT_POLICY=PASSIVE MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000

mkdir -p "$output"
smoke=
[ "$configuration" = smoke ] && smoke=--smoke
"$python" data.py --stickers "$work/sticker" --output "$work/data/stickers32.npz" $smoke

train() {
    "$python" "$@" --work "$work" --configuration "$configuration"
}

for family in "$@"; do
    case $family in
    real) ;;
    judge | vae | gan | flow) train "train_$family.py" ;;
    ddpm) train train_diffusion.py --family ddpm ;;
    cnf | score)
        [ -e "$work/ddpm.pt" ] || train train_diffusion.py --family ddpm
        train train_diffusion.py --family "$family"
        ;;
    progressive | consistency)
        [ -e "$work/ddpm.pt" ] || train train_diffusion.py --family ddpm
        train "train_$family.py"
        ;;
    *)
        echo "make.sh: family $family is not known; known are judge real vae gan flow ddpm cnf score progressive consistency" >&2
        exit 2
        ;;
    esac
    case $family in
    judge | real | vae | gan | flow) "$python" bundle.py "$family" --work "$work" --output "$output" ;;
    *)
        "$python" diffusion_bundle.py "$family" --work "$work" --output "$output"
        # The page shows 200 ancestral steps; the others are drawn as their cards say.
        case $configuration-$family in smoke-ddpm) steps="--steps 10" ;; *-ddpm) steps="--steps 200" ;; *) steps= ;; esac
        # shellcheck disable=SC2086 # an option and its value, or nothing
        "$python" unet_sheet.py --bundle "$output/$family" --output "$output/$family/sheet.png" $steps
        "$python" diffusion_bundle.py "$family" --work "$work" --output "$output" --card-only
        ;;
    esac
done
