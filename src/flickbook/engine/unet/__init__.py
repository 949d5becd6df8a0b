"""The model family of the project's own 3D U-Net: the built-in model and models of ModelScope's architecture.

What belongs here: what connects the networks of `diffusion` to the engine.
Read `family` (the adapter to the engine), `sliding_window` (films longer than the training length), `first_frame`
(image to video) and `prompt_cache` (prompt embeddings on disk). The folder `sketches` has tiny decoders for previews.
"""
