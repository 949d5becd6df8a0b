"""The mathematics and networks of latent video diffusion.

What belongs here: code that needs only torch, safetensors and tokenizers, has no global state, and knows nothing of
Plans, files of films or the catalogue. Read `text_to_video` first (the parts together), then `schedule` and `sampler`
(noise levels and solvers), `unet3d` with `attention` and `upsample`, `autoencoder` with `tiles` and `sketch`, `text`
with `tokenizer`, and `weights`. `forecast`, `pack` and `heap` make films faster on a CPU.
"""
