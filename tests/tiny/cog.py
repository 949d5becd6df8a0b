"""CogVideoX."""

from __future__ import annotations

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    CogVideoXVideoToVideoPipeline,
)
from tests.tiny.text import t5, t5_tok


def cog_vae():
    n = 4
    return AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * n,
        up_block_types=("CogVideoXUpBlock3D",) * n,
        block_out_channels=(8,) * n,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )


def cog_tr(**k):
    a = dict(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
    )
    a.update(k)
    return CogVideoXTransformer3DModel(**a)


def cog():
    return CogVideoXPipeline(
        tokenizer=t5_tok(), text_encoder=t5(), vae=cog_vae(), transformer=cog_tr(), scheduler=CogVideoXDPMScheduler()
    )


def cog_v2v():
    return CogVideoXVideoToVideoPipeline(
        tokenizer=t5_tok(), text_encoder=t5(), vae=cog_vae(), transformer=cog_tr(), scheduler=CogVideoXDDIMScheduler()
    )


def cog_i2v():
    return CogVideoXImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=t5(),
        vae=cog_vae(),
        transformer=cog_tr(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=8,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=True,
        ),
        scheduler=CogVideoXDPMScheduler(),
    )
