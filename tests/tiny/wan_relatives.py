"""AnyFlow, Helios and Motif-Video, which share Wan's autoencoder."""

from __future__ import annotations

import transformers as tf
from diffusers import (
    AnyFlowPipeline,
    AnyFlowTransformer3DModel,
    FlowMapEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeliosPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
    MotifVideoPipeline,
    MotifVideoTransformer3DModel,
)
from diffusers.guiders import AdaptiveProjectedGuidance
from tests.tiny.text import t5_tok, umt5
from tests.tiny.wan import SMALL, wan_vae
from transformers import SiglipVisionConfig, T5Gemma2Encoder, T5Gemma2EncoderConfig, T5Gemma2TextConfig


def anyflow():
    return AnyFlowPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=FlowMapEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0),
        transformer=AnyFlowTransformer3DModel(
            **{name: value for name, value in SMALL.items() if name != "qk_norm"},
            rope_max_seq_len=32,
            gate_value=0.25,
            deltatime_type="r",
        ),
    )


def helios():
    return HeliosPipeline(
        tokenizer=t5_tok(),
        text_encoder=umt5(),
        vae=wan_vae(),
        scheduler=HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True),
        transformer=HeliosTransformer3DModel(
            **SMALL,
            rope_dim=(4, 4, 4),
            has_multi_term_memory_patch=True,
            guidance_cross_attn=True,
            zero_history_timestep=True,
            is_amplify_history=False,
        ),
    )


def motif():
    text = T5Gemma2TextConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=64,
        max_position_embeddings=128,
        head_dim=16,
        num_key_value_heads=2,
    )
    text.dropout_rate, text.layer_norm_epsilon, text.dense_act_fn = 0.0, 1e-6, "gelu"
    eye = SiglipVisionConfig(
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_channels=3,
    )
    return MotifVideoPipeline(
        tokenizer=t5_tok(),
        text_encoder=T5Gemma2Encoder(T5Gemma2EncoderConfig(text_config=text, vision_config=eye)).eval(),
        vae=wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=AdaptiveProjectedGuidance(),
        feature_extractor=tf.SiglipImageProcessorPil(size={"height": 16, "width": 16}),
        transformer=MotifVideoTransformer3DModel(
            in_channels=33,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            num_single_layers=1,
            mlp_ratio=4.0,
            patch_size=1,
            patch_size_t=1,
            qk_norm="rms_norm",
            text_embed_dim=32,
            image_embed_dim=4,
            rope_axes_dim=(4, 4, 4),
        ),
    )
