#!/bin/sh
# Makes story.mp4, a film of eight shots with titles and a voice, and makes it again to prove that it can be reproduced.
# Everything in it is made on this machine by the built-in model. Takes about a minute on two cores. After a kill the same
# command continues with the shots that are left. Usage: sh examples/story/story.sh [DIRECTORY]
set -eu

here=$(dirname "$0")
place=${1:-story}
mkdir -p "$place"
cp "$here/story.toml" "$place/story.toml"
[ -f "$place/voice.wav" ] || "${PYTHON:-python3}" "$here/voice.py" "$place/voice.wav" 14
[ -f "$place/hero.png" ] || flickbook generate "a small yellow star on a black background" --num-frames 1 --seed 1 \
    --output "$place/hero.png"
[ -f "$place/story.mp4" ] || flickbook generate "$place/story.toml" --output "$place/story.mp4"
flickbook reproduce "$place/story.mp4"
