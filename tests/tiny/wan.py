"""Wan 2.1, Wan 2.2 and SkyReels V2."""

from __future__ import annotations

import transformers as tf
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    WanVideoToVideoPipeline,
)
from tests.tiny.text import t5_tok, umt5, vision
from transformers import CLIPVisionModel


def wan_vae():
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def wan22_vae():
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        temperal_downsample=[False, True, True],
    )


#: What the small networks of Wan and its relatives have in common.
SMALL = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=2,
    attention_head_dim=12,
    in_channels=16,
    out_channels=16,
    text_dim=32,
    freq_dim=256,
    ffn_dim=32,
    num_layers=2,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
)


def wan_tr(cls=None, **k):
    return (cls or WanTransformer3DModel)(**{**SMALL, "rope_max_seq_len": 32, **k})


def unipc(shift):
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def wan():
    return WanPipeline(
        tokenizer=t5_tok(), text_encoder=umt5(), vae=wan_vae(), scheduler=unipc(3.0), transformer=wan_tr()
    )


def wan22_a14b():
    return WanPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        transformer=wan_tr(),
        transformer_2=wan_tr(),
        boundary_ratio=0.875,
    )


def wan22_5b():
    return WanPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan22_vae(),
        scheduler=unipc(5.0),
        transformer=wan_tr(in_channels=48, out_channels=48),
        expand_timesteps=True,
    )


def wan_i2v():
    return WanImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        image_processor=tf.CLIPImageProcessorPil(crop_size=32, size=32),
        image_encoder=vision(cls=CLIPVisionModel),
        transformer=wan_tr(in_channels=36, image_dim=4),
    )


def wan_animate():
    return WanAnimatePipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        image_processor=tf.CLIPImageProcessorPil(crop_size=4, size=4),
        image_encoder=vision(size=4, cls=CLIPVisionModel),
        transformer=wan_tr(
            WanAnimateTransformer3DModel,
            in_channels=36,
            latent_channels=16,
            image_dim=4,
            motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
            motion_encoder_size=16,
            motion_style_dim=8,
            motion_dim=4,
            motion_encoder_dim=16,
            face_encoder_hidden_dim=16,
            face_encoder_num_heads=2,
            inject_face_latents_blocks=2,
        ),
    )


def wan_v2v():
    return WanVideoToVideoPipeline(
        tokenizer=t5_tok(), text_encoder=umt5(), transformer=wan_tr(), vae=wan_vae(), scheduler=unipc(3.0)
    )


def sky():
    return SkyReelsV2Pipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        transformer=wan_tr(SkyReelsV2Transformer3DModel),
        vae=wan_vae(),
        scheduler=unipc(8.0),
    )


def sky_df():
    return SkyReelsV2DiffusionForcingPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        transformer=wan_tr(SkyReelsV2Transformer3DModel),
        vae=wan_vae(),
        scheduler=unipc(8.0),
    )


def sky_i2v():
    return SkyReelsV2ImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        image_encoder=vision(),
        image_processor=tf.CLIPImageProcessorPil(crop_size=32, size=32),
        transformer=wan_tr(SkyReelsV2Transformer3DModel, in_channels=36, image_dim=4),
        vae=wan_vae(),
        scheduler=unipc(5.0),
    )


def wan_flf():
    return WanImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        image_processor=tf.CLIPImageProcessorPil(crop_size=4, size=4),
        image_encoder=vision(size=4, cls=CLIPVisionModel),
        transformer=wan_tr(in_channels=36, image_dim=4, pos_embed_seq_len=2 * (4 * 4 + 1)),
    )


def wan22_i2v():
    return WanImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        transformer=wan_tr(in_channels=36),
        transformer_2=wan_tr(in_channels=36),
        boundary_ratio=0.875,
    )


def wan22_5b_i2v():
    return WanImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan22_vae(),
        scheduler=unipc(3.0),
        transformer=wan_tr(in_channels=48, out_channels=48),
        expand_timesteps=True,
    )


def wan_vace():
    return WanVACEPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=wan_tr(WanVACETransformer3DModel, num_layers=3, vace_layers=[0, 2], vace_in_channels=96),
    )


def sky_df_i2v(last=False):
    return SkyReelsV2DiffusionForcingImageToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(5.0),
        transformer=wan_tr(SkyReelsV2Transformer3DModel),
    )


def sky_df_v2v():
    return SkyReelsV2DiffusionForcingVideoToVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=unipc(5.0),
        transformer=wan_tr(SkyReelsV2Transformer3DModel),
    )
