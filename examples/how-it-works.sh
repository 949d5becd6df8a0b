#!/bin/sh
# Makes how-it-works.mp4, a film of two minutes that tells what docs/how-it-works.md explains. Everything in it is made by
# the built-in model. Takes about four minutes on two cores. Usage: sh examples/how-it-works.sh [DIRECTORY]
set -eu

place=${1:-how-it-works}
mkdir -p "$place"
prompt="a large red circle moving left on a blue background"

# part NAME CAPTION PROMPT [OPTION ...]: a film of two seconds, slowed down to eight, with a caption.
part() {
    name=$1 caption=$2 words=$3
    shift 3
    [ -f "$place/$name.mp4" ] && return
    flickbook generate "$words" --output "$place/$name-raw.mp4" --overwrite "$@"
    flickbook polish "$place/$name-raw.mp4" --interpolate 4x --speed 0.25 --upscale 3x --text "$caption" \
        --output "$place/$name.mp4" --overwrite
}

part 01 "A sentence becomes a film" "$prompt" --seed 7
part 02 "The text encoder turns each word into numbers" "a small yellow star spinning on a black background" --seed 3
part 03 "A film is noise that is taken away: in two steps" "$prompt" --seed 7 --num-inference-steps 2
part 04 "In four steps the outline is nearer" "$prompt" --seed 7 --num-inference-steps 4
part 05 "In one step it is a guess" "$prompt" --seed 7 --num-inference-steps 1
part 06 "Six steps: colours and places are there" "$prompt" --seed 7 --num-inference-steps 6
part 07 "Twenty-five steps: outlines are there" "$prompt" --seed 7 --num-inference-steps 25
part 08 "Other noise, another film of the same words" "$prompt" --seed 8
part 09 "Cross-attention reads the words: red becomes green" "a large green circle moving left on a blue background" --seed 7
part 10 "Temporal layers connect the frames: left becomes right" "a large red circle moving right on a blue background" --seed 7
part 11 "Without guidance the words count less" "$prompt" --seed 7 --guidance-scale 1
part 12 "With guidance they count more" "$prompt" --seed 7 --guidance-scale 5
part 13 "The autoencoder turns latents into pixels" "a peaceful sunset over mountain ranges" --seed 1
if [ ! -f "$place/14.mp4" ]; then
    flickbook sequence "$prompt" "a large yellow square on a white background" --frames-per 32 --seed 7 \
        --output "$place/14-raw.mp4" --overwrite
    flickbook polish "$place/14-raw.mp4" --upscale 3x --text "Between two sentences there are films, too" \
        --output "$place/14.mp4" --overwrite
fi
part 15 "Made with Flickbook, on one machine" "a neon city in the rain with flying vehicles" --seed 7

set --
for number in 02 03 04 05 06 07 08 09 10 11 12 13 14 15; do
    set -- "$@" --join "$place/$number.mp4"
done
flickbook polish "$place/01.mp4" "$@" --fade 4 --fit --output "$place/how-it-works.mp4" --overwrite
