#!/bin/sh
# Makes how-it-works.mp4, a film of two minutes that tells what docs/how-it-works.md explains: films of the built-in model,
# and figures of `flickbook explain`. Run it in the environment that Flickbook is installed in. Takes about three minutes
# on two cores. Usage: sh examples/how-it-works.sh [DIRECTORY]
set -eu

place=${1:-how-it-works}
mkdir -p "$place"
prompt="a large red circle moving left on a blue background"

# film NAME CAPTION PROMPT [OPTION ...]: a film of two seconds, slowed down to eight, with a caption.
film() {
    name=$1 caption=$2 words=$3
    shift 3
    [ -f "$place/$name.mp4" ] && return
    flickbook generate "$words" --output "$place/$name-raw.mp4" --overwrite "$@"
    flickbook polish "$place/$name-raw.mp4" --interpolate 4x --speed 0.25 --upscale 4x --text "$caption" \
        --output "$place/$name.mp4" --overwrite
}

# figure NAME CAPTION FILE: a figure of the report on a square white page, for eight seconds, with a caption.
figure() {
    [ -f "$place/$1.mp4" ] && return
    mkdir -p "$place/$1"
    python - "$place/report/$3" "$place/$1" <<'END'
import sys

from PIL import Image, ImageOps

page = Image.new("RGB", (1024, 1024), "white")  # the lowest part is for the caption
page.paste(ImageOps.pad(Image.open(sys.argv[1]).convert("RGB"), (1024, 860), color="white"))
for number in range(16):
    page.save(f"{sys.argv[2]}/{number:02d}.png")
END
    flickbook polish "$place/$1/%02d.png" --speed 0.25 --rate 8 --text "$2" --output "$place/$1.mp4" --overwrite
}

[ -f "$place/report/index.html" ] || flickbook explain "$prompt" --seed 7 --out "$place/report"

figure 01 "From noise to a film, step by step" 03-reverse.png
film 02 "The text encoder turns words into vectors" "a peaceful sunset over mountain ranges" --seed 1
figure 03 "Forward process: a film turns into noise" 01-forward.png
figure 04 "The scheduler: how much noise at each timestep" 02-noise-schedule.png
film 05 "Reverse process in one step: a guess" "$prompt" --seed 7 --num-inference-steps 1
film 06 "In four steps" "$prompt" --seed 7 --num-inference-steps 4
film 07 "In 25 steps" "$prompt" --seed 7
figure 08 "The 3D U-Net predicts the film in the noise" 10-network.png
figure 09 "Cross-attention: where each word is read" 04-words.png
film 10 "The same noise, one other word: green" "a large green circle moving left on a blue background" --seed 7
figure 11 "Temporal attention: which frames look at which" 06-temporal-attention.png
film 12 "The same noise, one other word: right" "a large red circle moving right on a blue background" --seed 7
figure 13 "Classifier-free guidance: more of what the words change" 07-guidance.png
figure 14 "The autoencoder turns latents into pixels" 09-latents.png
if [ ! -f "$place/15.mp4" ]; then
    flickbook sequence "$prompt" "a large yellow square on a white background" --frames-per 60 --seed 7 \
        --output "$place/15-raw.mp4" --overwrite
    flickbook polish "$place/15-raw.mp4" --upscale 4x --text "Made with Flickbook, on one machine" \
        --output "$place/15.mp4" --overwrite
fi

set --
for number in 02 03 04 05 06 07 08 09 10 11 12 13 14 15; do
    set -- "$@" --join "$place/$number.mp4"
done
flickbook polish "$place/01.mp4" "$@" --fade 4 --fit --output "$place/how-it-works.mp4" --overwrite \
    --sheet "$place/how-it-works.png"
