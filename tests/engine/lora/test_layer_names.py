"""The names that trainers give to layers, and the layers they mean."""

from __future__ import annotations

import pytest

from flickbook.engine.lora.layer_names import Pair, find, flat, is_renamed, read_pairs, style_of

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
WORD = "encoder.layers.0.self_attn.q_proj"


def layers(*names: str) -> dict[str, str]:
    return {flat(name): name for name in names}


UNET = {"unet": layers(QUERY, OUT, "conv_in"), "text_encoder": layers(f"text_model.{WORD}")}


@pytest.mark.parametrize(
    ("down", "up", "style"),
    [
        (f"unet.{QUERY}.lora_A.weight", f"unet.{QUERY}.lora_B.weight", "diffusers"),
        (f"unet.{QUERY}.lora.down.weight", f"unet.{QUERY}.lora.up.weight", "diffusers"),
        (f"unet.{QUERY}_lora.down.weight", f"unet.{QUERY}_lora.up.weight", "diffusers"),
        (f"{QUERY.replace('.to_q', '.processor.to_q_lora')}.down.weight", "", "diffusers"),
        (f"base_model.model.{QUERY}.lora_A.weight", f"base_model.model.{QUERY}.lora_B.weight", "peft"),
        (f"base_model.model.{QUERY}.lora_A.default.weight", "", "peft"),
        (f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight", "peft"),
        (f"{QUERY}.lora_A", f"{QUERY}.lora_B", "peft"),
        (f"diffusion_model.{QUERY}.lora_A.weight", f"diffusion_model.{QUERY}.lora_B.weight", "peft"),
        (f"lora_unet_{flat(QUERY)}.lora_down.weight", f"lora_unet_{flat(QUERY)}.lora_up.weight", "kohya"),
        (f"diffusion_model.{QUERY}.lora_down.weight", "", "kohya"),
    ],
)
def test_every_naming_style_maps_to_its_layer(down: str, up: str, style: str) -> None:
    up = up or down.replace("down", "up").replace("lora_A", "lora_B")
    up = up.replace("up_blocks", "down_blocks")
    (pair,), rest = read_pairs([up, down])
    assert (pair.down, pair.up, rest) == (down, up, ())
    assert style_of([pair]) == style
    assert find(pair.layer, UNET) == [("unet", QUERY)]


def test_alphas_and_middle_matrices_belong_to_their_layer() -> None:
    keys = ["a.lora_down.weight", "a.lora_up.weight", "a.lora_mid.weight", "a.alpha"]
    assert read_pairs(keys) == ((Pair("a", *keys),), ())


def test_incomplete_pairs_are_left_over() -> None:
    keys = ["a.lora_A.weight", "b.lora_B.weight", "b.lora_B.bias", "c.alpha", "d.dora_scale", "e.diff_b", "f.weight"]
    assert read_pairs(keys) == ((), tuple(keys))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (f"unet.{OUT.removesuffix('.0')}", ("unet", OUT)),
        ("unet.conv_in", ("unet", "conv_in")),
        (f"lora_te_text_model_{flat(WORD)}", ("text_encoder", f"text_model.{WORD}")),
        (f"lora_te1_text_model_{flat(WORD)}", ("text_encoder", f"text_model.{WORD}")),
        (f"text_encoder.{WORD}", ("text_encoder", f"text_model.{WORD}")),
        (f"text_encoder.text_model.{WORD.replace('q_proj', 'to_q')}", ("text_encoder", f"text_model.{WORD}")),
        (f"base_model.model.text_model.{WORD}", ("text_encoder", f"text_model.{WORD}")),
    ],
)
def test_alternative_layer_names_are_found(theirs: str, ours: tuple[str, str]) -> None:
    assert find(theirs, UNET) == [ours]


@pytest.mark.parametrize(
    "theirs", [f"text_encoder_2.{WORD}", f"lora_te2_{flat(WORD)}", f"text_encoder.{QUERY}", "x", ""]
)
def test_unknown_layer_names_are_not_found(theirs: str) -> None:
    assert find(theirs, UNET) == []


def test_names_of_a_newer_text_encoder_without_one_level_are_found() -> None:
    new = {"text_encoder": layers(WORD)}
    assert find(f"lora_te_text_model_{flat(WORD)}", new) == [("text_encoder", WORD)]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("self_attn.q", "attn1.to_q"),
        ("self_attn.o", "attn1.to_out.0"),
        ("cross_attn.k", "attn2.to_k"),
        ("cross_attn.o", "attn2.to_out.0"),
        ("cross_attn.v_img", "attn2.add_v_proj"),
        ("ffn.0", "ffn.net.0.proj"),
        ("ffn.2", "ffn.net.2"),
    ],
)
def test_names_of_the_original_wan_code_are_found(theirs: str, ours: str) -> None:
    wan = {"transformer": layers(f"blocks.11.{ours}")}
    for name in (f"diffusion_model.blocks.11.{theirs}", f"lora_unet_blocks_11_{flat(theirs)}"):
        assert find(name, wan) == [("transformer", f"blocks.11.{ours}")]


def test_a_name_without_a_network_means_both_denoisers() -> None:
    both = {"transformer": layers("a.b"), "transformer_2": layers("a.b")}
    assert find("lora_unet_a_b", both) == [("transformer", "a.b"), ("transformer_2", "a.b")]
    assert find("transformer_2.a.b", both) == [("transformer_2", "a.b")]


def test_only_current_names_count_as_not_renamed() -> None:
    (today,), _ = read_pairs(["unet.a.lora_A.weight", "unet.a.lora_B.weight"])
    (older,), _ = read_pairs(["unet.a.lora.down.weight", "unet.a.lora.up.weight"])
    assert not is_renamed(today, "unet", "a") and is_renamed(older, "unet", "a")
