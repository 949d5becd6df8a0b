"""Kandinsky 5 and 6."""

from __future__ import annotations

from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
)
from tests.tiny.text import clip_text, clip_tok, qwen_tok
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration


def qwen_vl():
    size = 32
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 320,
                "hidden_size": size,
                "intermediate_size": size,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_scaling": {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"},
                "rope_theta": 1000000.0,
            },
            vision_config={
                "depth": 1,
                "hidden_size": size,
                "intermediate_size": size,
                "num_heads": 2,
                "out_hidden_size": size,
            },
            vision_end_token_id=257,
            vision_start_token_id=256,
            vision_token_id=258,
        )
    ).eval()


def k_vae(channels):
    return AutoencoderKLHunyuanVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=channels,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.476986,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
        mid_block_add_attention=False,
    )


def k5(cls=Kandinsky5T2VPipeline):
    return cls(
        vae=k_vae(16),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tok(),
        text_encoder_2=clip_text(16),
        tokenizer_2=clip_tok(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=16,
            in_text_dim=32,
            in_text_dim2=16,
            time_dim=16,
            out_visual_dim=16,
            patch_size=(1, 2, 2),
            model_dim=16,
            ff_dim=32,
            num_text_blocks=1,
            num_visual_blocks=2,
            axes_dims=(1, 1, 2),
            visual_cond=cls is not Kandinsky5T2VPipeline,
            attention_type="regular",
        ),
    )


def k5_i2v():
    return k5(Kandinsky5I2VPipeline)


def k6():
    return Kandinsky6TI2VAPipeline(
        vae=k_vae(4),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tok(),
        text_encoder_2=clip_text(16),
        tokenizer_2=clip_tok(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        transformer=Kandinsky6Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=32,
            in_text_dim2=16,
            time_dim=16,
            patch_size=(1, 2, 2),
            model_dim=12,
            ff_dim=24,
            num_text_blocks=1,
            num_visual_blocks=2,
            axes_dims=(2, 1, 1),
            visual_cond=True,
            in_audio_dim=4,
            out_audio_dim=4,
            visual_token_type_num_embeddings=2,
        ),
        audio_vae=MMAudioVAE(
            mel_bins=8,
            latent_channels=4,
            hidden_channels=8,
            channel_multipliers=(1, 2),
            layers_per_block=1,
            sample_rate=4096,
            n_fft=512,
            hop_length=256,
        ),
        vocoder=MMAudioVocoder(
            num_mels=8,
            upsample_initial_channel=8,
            upsample_rates=(16, 16),
            upsample_kernel_sizes=(32, 32),
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
        ),
    )
