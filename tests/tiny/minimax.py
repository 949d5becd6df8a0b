"""MiniMax-H3."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import (
    AutoencoderKLMiniMaxH3,
    AutoencoderKLMiniMaxH3Audio,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from flickbook.engine.pipelines.modular.pipeline import PictureProcessor

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)


def qwen3_tok():
    letters = sorted(ByteLevel.alphabet())
    return Qwen2Tokenizer(
        vocab={token: place for place, token in enumerate([*letters, *SPECIAL])},
        merges=[],
        model_max_length=2048,
        extra_special_tokens=list(SPECIAL),
    )


def qwen3_vl():
    """The network reads the hidden state after layer 50, so there is one layer more."""
    first = 256
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": 272,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 51,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default", "mrope_interleaved": True},
                "rope_theta": 1000000.0,
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0],
            },
            vision_start_token_id=first + 3,
            vision_end_token_id=first + 4,
            image_token_id=first + 5,
            video_token_id=first + 6,
        )
    ).eval()


class Published:
    """A pipeline that is saved as it is published: with transformers' processor, which cannot be made here."""

    def __init__(self, pipe):
        self.pipe, self.blocks = pipe, pipe.blocks

    def save_pretrained(self, directory, **how):
        processor = self.pipe.processor
        self.pipe.update_components(processor=None)
        self.pipe.save_pretrained(directory, **how)
        processor.image_processor.save_pretrained(Path(directory) / "processor")
        path = Path(directory) / "modular_model_index.json"
        index = json.loads(path.read_text(encoding="utf-8"))
        index["processor"] = ["transformers", "Qwen3VLProcessor", {}]
        path.write_text(json.dumps(index), encoding="utf-8")


def h3():
    from diffusers.modular_pipelines import MiniMaxH3Blocks

    tokenizer = qwen3_tok()
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )
    pipe = MiniMaxH3Blocks().init_pipeline()
    pipe.update_components(
        text_encoder=qwen3_vl(),
        tokenizer=tokenizer,
        processor=PictureProcessor(pictures, tokenizer),
        scheduler=MiniMaxH3Scheduler(shift=12.0),
        audio_scheduler=MiniMaxH3Scheduler(shift=3.0),
        vae=AutoencoderKLMiniMaxH3(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            decoder_num_layers=1,
            decoder_num_attention_heads=2,
            decoder_attention_head_dim=8,
            decoder_num_register_tokens=1,
            decoder_ffn_mult=2,
            latents_mean=(0.1,) * 4,
            latents_std=(0.9,) * 4,
        ),
        audio_vae=AutoencoderKLMiniMaxH3Audio(
            encoder_dim=2,
            latent_dim=64,
            latent_channels=4,
            num_attention_heads=2,
            decoder_dim=128,
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1,),),
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        transformer=MiniMaxH3Transformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            hidden_size=32,
            num_layers=1,
            num_refiner_layers=1,
            ffn_dim=32,
            in_channels=4,
            audio_in_channels=4,
            text_dim=16,
            freq_dim=16,
            time_embed_hidden_dim=16,
            time_embed_dim=16,
            rope_freq_dim=2,
        ),
    )
    return Published(pipe)
