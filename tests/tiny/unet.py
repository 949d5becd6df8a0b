"""Models on 2D and 3D U-Nets, and models of pictures."""

from __future__ import annotations

import torch
import transformers as tf
from diffusers import (
    AnimateDiffControlNetPipeline,
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AnimateDiffVideoToVideoPipeline,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    MotionAdapter,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableVideoDiffusionPipeline,
    TextToVideoSDPipeline,
    TextToVideoZeroPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
    VideoToVideoSDPipeline,
)
from tests.tiny.text import clip_text, clip_tok, gemma2, gemma_tok, t5, t5_tok, vision
from transformers import CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection


def sd_vae(ch=(8, 8)):
    return AutoencoderKL(
        block_out_channels=ch,
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * len(ch),
        up_block_types=["UpDecoderBlock2D"] * len(ch),
        latent_channels=4,
        norm_num_groups=2,
    )


def sd_unet():
    return UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=2,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=2,
    )


def ddim():
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False)


def ad(cls=None):
    return (cls or AnimateDiffPipeline)(
        vae=sd_vae(),
        text_encoder=clip_text(8),
        tokenizer=clip_tok(),
        unet=sd_unet(),
        motion_adapter=MotionAdapter(
            block_out_channels=(8, 8), motion_layers_per_block=2, motion_norm_num_groups=2, motion_num_attention_heads=4
        ),
        scheduler=ddim(),
    )


def ad_control():
    parts = {name: part for name, part in ad().components.items() if part is not None and name != "unet"}
    unet = sd_unet()
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    torch.nn.init.normal_(net.controlnet_mid_block.weight, std=0.5)  # zero, until it is trained
    return AnimateDiffControlNetPipeline(**parts, unet=unet, controlnet=net)


def ad_v2v():
    return ad(AnimateDiffVideoToVideoPipeline)


def svd():
    un = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=2,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    sc = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        trained_betas=None,
        use_karras_sigmas=True,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        latent_channels=4,
    )
    ie = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            num_hidden_layers=5,
            num_attention_heads=4,
            image_size=224,
            intermediate_size=37,
            patch_size=32,
        )
    )
    return StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=ie.eval(),
        unet=un,
        scheduler=sc,
        feature_extractor=tf.CLIPImageProcessorPil(crop_size=32, size=32),
    )


def i2vgen():
    un = I2VGenXLUNet(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=4,
        attention_head_dim=4,
        num_attention_heads=None,
        norm_num_groups=2,
    )
    return I2VGenXLPipeline(
        vae=sd_vae((8,)),
        text_encoder=clip_text(4),
        tokenizer=clip_tok(),
        image_encoder=vision(),
        feature_extractor=tf.CLIPImageProcessorPil(crop_size=32, size=32),
        unet=un,
        scheduler=ddim(),
    )


def ms(cls=None):
    un = UNet3DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=4,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    return (cls or TextToVideoSDPipeline)(
        vae=sd_vae((8,)), text_encoder=clip_text(4), tokenizer=clip_tok(), unet=un, scheduler=ddim()
    )


def ms_v2v():
    return ms(VideoToVideoSDPipeline)


def zero():
    return TextToVideoZeroPipeline(
        vae=sd_vae(),
        text_encoder=clip_text(8),
        tokenizer=clip_tok(),
        unet=sd_unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd15():
    return StableDiffusionPipeline(
        vae=sd_vae(),
        text_encoder=clip_text(8),
        tokenizer=clip_tok(),
        unet=sd_unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    un = UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
        norm_num_groups=1,
    )
    return StableDiffusionXLPipeline(
        vae=sd_vae(),
        text_encoder=clip_text(32),
        text_encoder_2=clip_text(32, 32, CLIPTextModelWithProjection),
        tokenizer=clip_tok(),
        tokenizer_2=clip_tok(),
        unet=un,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def flux():
    tr = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            block_out_channels=(4,),
            layers_per_block=1,
            latent_channels=1,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
        ),
        text_encoder=clip_text(32),
        tokenizer=clip_tok(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tok(),
        transformer=tr,
    )


def sana_img():
    tr = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=32,
    )
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return SanaPipeline(
        tokenizer=gemma_tok(),
        text_encoder=gemma2(),
        vae=vae,
        transformer=tr,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    )


def ad_sdxl():
    x = sdxl()
    ma = MotionAdapter(
        block_out_channels=(8, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=1,
        motion_num_attention_heads=4,
        use_motion_mid_block=False,
    )
    return AnimateDiffSDXLPipeline(
        vae=x.vae,
        text_encoder=x.text_encoder,
        text_encoder_2=x.text_encoder_2,
        tokenizer=x.tokenizer,
        tokenizer_2=x.tokenizer_2,
        unet=x.unet,
        motion_adapter=ma,
        scheduler=ddim(),
    )
