"""LoRA training: teaches a model a style, a subject or a motion from a directory of captioned clips.

`data/` reads the clips. Then in this order: `config`, `target` (what a training needs of a model; `unet` and
`pipelines` are models), `adapter` (the LoRA), `blocks` and `cost` (memory), `trainer` (the updates), `record` (what a
directory belongs to), `publish` (the result), and `tune`, the whole.
"""
