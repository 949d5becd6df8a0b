"""The mathematics and networks of latent video diffusion.

What belongs here: code that needs only torch, safetensors and tokenizers, and knows nothing of Plans, the catalogue or
files of films. Read `text_to_video` first (the parts together), then `schedule` and `sampler`
(noise levels and solvers), `unet3d` with `attention` and `upsample`, `autoencoder` with `tiles` and `sketch`, `text`
with `tokenizer`, and `weights`. `forecast`, `pack` and `heap` make films faster on a CPU.
"""
