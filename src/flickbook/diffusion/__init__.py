"""The mathematics and the networks of video diffusion; torch, safetensors and tokenizers only, and no globals."""
