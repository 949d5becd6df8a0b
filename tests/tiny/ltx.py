"""LTX-Video and LTX-2."""

from __future__ import annotations

from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from tests.tiny.others import gemma3
from tests.tiny.text import gemma_tok, t5, t5_tok


def ltx_vae():
    return AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )


def ltx_tr():
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    )


def ltx(cls=None):
    return (cls or LTXPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=ltx_vae(),
        text_encoder=t5(),
        tokenizer=t5_tok(),
        transformer=ltx_tr(),
    )


def ltx_i2v():
    return ltx(LTXImageToVideoPipeline)


def ltx_cond():
    return ltx(LTXConditionPipeline)


def ltx_upsampler():
    from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

    return LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)


def ltx2_upsampler(**config):
    from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

    return LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1, **config)


def ltx2_vae():
    return AutoencoderKLLTX2Video(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )


def ltx2_audio():
    return AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        attn_resolutions=None,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        dropout=0.0,
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=8,
    )


def ltx2_vocoder():
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    return LTX2Vocoder(
        in_channels=2 * 8,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        leaky_relu_negative_slope=0.1,
        output_sampling_rate=16000,
    )


def ltx2():
    te = gemma3()
    h = te.config.text_config.hidden_size
    n = te.config.text_config.num_hidden_layers + 1
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    tr = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        qk_norm="rms_norm_across_heads",
        caption_channels=h,
        rope_double_precision=False,
        rope_type="split",
    )
    co = LTX2TextConnectors(
        caption_channels=h,
        text_proj_in_factor=n,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=h // 4,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=h // 4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_theta=10000.0,
        rope_double_precision=False,
        causal_temporal_positioning=False,
        rope_type="split",
    )
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=ltx2_vae(),
        audio_vae=ltx2_audio(),
        text_encoder=te,
        tokenizer=gemma_tok(),
        connectors=co,
        transformer=tr,
        vocoder=ltx2_vocoder(),
    )


def ltx25():
    from diffusers.modular_pipelines import LTX25AutoBlocks

    names = ("text_encoder", "tokenizer", "connectors", "vae", "scheduler", "audio_vae", "vocoder", "transformer")
    parts = ltx2().components
    pipe = LTX25AutoBlocks().init_pipeline()
    pipe.update_components(**{name: parts[name] for name in names})
    return pipe


def ltx2_i2v():
    return LTX2ImageToVideoPipeline(**{k: v for k, v in ltx2().components.items() if v is not None})


def ltx2_cond():
    from diffusers.pipelines.ltx2 import LTX2ConditionPipeline as P

    return P(**{k: v for k, v in ltx2().components.items() if v is not None})
