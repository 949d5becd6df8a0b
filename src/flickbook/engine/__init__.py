"""Runs a model: a Plan and a Placement in, Steps and frames out.

What belongs here: everything between a resolved Plan and finished frames, apart from the networks (`diffusion`) and
the files (`media`). Start with `generate` (the public call), then `films` (Plans in, Clips out), `engine` (one loaded
model) and `family` (what a model family implements); then `checkpoint`, `polish`, `treat` (polishes files), `draft`,
`retry`, `rows` and `batch`. Folders: `unet` and `pipelines` are the two model families, `memory` chooses a Placement
that fits, `lora` loads LoRAs, `sequences` makes sequences of stills, `reproduction` makes a film again from its Recipe.
"""
