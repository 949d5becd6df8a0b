"""Tokenizers, text encoders and picture encoders, small and offline."""

from __future__ import annotations

import string

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    LlamaTokenizer,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

CHARS = string.ascii_lowercase + string.digits + ".,'-"


def t5_tok(n=16):
    v = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)] + [(c, -3.0) for c in CHARS]
    return T5Tokenizer(vocab=v, extra_ids=0, model_max_length=n)


def t5(d=32, cls=None, cfg=None):
    cfg = (cfg or T5Config)(
        vocab_size=64, d_model=d, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8
    )
    return (cls or T5EncoderModel)(cfg).eval()


def umt5(d=32):
    return t5(d, UMT5EncoderModel, UMT5Config)


def clip_tok(n=77):
    toks = list(CHARS) + [c + "</w>" for c in CHARS] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(toks)}, merges=[], model_max_length=n)


def clip_text(hidden=32, proj=32, cls=CLIPTextModel):
    v = 2 * len(CHARS) + 2
    return cls(
        CLIPTextConfig(
            vocab_size=v,
            bos_token_id=v - 2,
            eos_token_id=v - 1,
            pad_token_id=v - 1,
            hidden_size=hidden,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            projection_dim=proj,
        )
    ).eval()


def vision(hidden=4, size=32, cls=CLIPVisionModelWithProjection):
    return cls(
        CLIPVisionConfig(
            hidden_size=hidden,
            projection_dim=hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=size,
            intermediate_size=16,
            patch_size=1,
        )
    ).eval()


def gemma_tok(n=64):
    toks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁"] + list(CHARS)
    return GemmaTokenizer(vocab={t: i for i, t in enumerate(toks)}, merges=[], model_max_length=n)


def qwen_tok():
    sp = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    from tokenizers.pre_tokenizers import ByteLevel

    al = sorted(ByteLevel.alphabet())
    k = Qwen2Tokenizer(
        vocab={t: i for i, t in enumerate(al + sp)}, merges=[], model_max_length=2048, extra_special_tokens=sp
    )
    k.chat_template = (
        "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return k


def gemma2():
    v = len(gemma_tok())
    return Gemma2Model(
        Gemma2Config(
            vocab_size=v,
            head_dim=16,
            hidden_size=8,
            intermediate_size=64,
            num_attention_heads=2,
            num_hidden_layers=1,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            attn_implementation="eager",
        )
    ).eval()


def llama_tok():
    toks = ["<unk>", "<s>", "</s>", "<pad>", "▁"] + list(CHARS)
    return LlamaTokenizer(
        vocab={t: i for i, t in enumerate(toks)},
        merges=[],
        pad_token="<pad>",
        padding_side="right",
        model_max_length=256,
    )
