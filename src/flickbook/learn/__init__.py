"""Training of the built-in model, and of students and judges; no service imports this package.

Training loops, their data and their checkpoints belong here; networks and samplers are in `flickbook.diffusion`, the
films to learn from in `flickbook.world`. Read in this order: `config` (the TOML file), `session` (a whole training),
`dataset` (films as latents), `autoencode` and `train` (the two loops), `muon` (the optimizer), `checkpoint`, `publish`.
`compute/` has precision, memory, throughput and CUDA graphs. `evaluation/` measures a model, `distillation/` trains
students, `tuning/` LoRAs. `rephrase` teaches a text encoder new words, `sketch` trains preview decoders, `book/` the
judge of the picture book.
"""
