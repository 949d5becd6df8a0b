"""Films of LTX that are made at half their width and height, doubled as latents, and denoised again in few steps.

`upsampler` runs the network that doubles latents, `stages` the two calls of a pipeline around it.
"""
