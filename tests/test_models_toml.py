"""Every entry of models.toml: complete, consistent, and within what it says of itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from flickbook.catalogue import Model, Real, Whole, find, list_models
from flickbook.errors import RequestError
from flickbook.hub.pull import File, choose
from flickbook.resolution import resolve
from flickbook.spec import Plan, Request

MODELS = list_models()
NAMES = [model.name for model in MODELS]
FIGURES = ("num_frames", "num_inference_steps", "guidance_scale", "parameters", "download_gb", "memory_gib")
PRECISIONS = {"fp32", "bf16", "fp16", "fp8", "int8"}
#: The classes of diffusers that entries name; the slow test compares them with the library.
PIPELINES = (
    "AnimateDiffControlNetPipeline",
    "AnimateDiffPipeline",
    "AnyFlowPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXPipeline",
    "FluxPipeline",
    "HeliosPipeline",
    "HunyuanVideo15ImageToVideoPipeline",
    "HunyuanVideo15Pipeline",
    "HunyuanVideoFramepackPipeline",
    "HunyuanVideoPipeline",
    "I2VGenXLPipeline",
    "Kandinsky5I2VPipeline",
    "Kandinsky5T2VPipeline",
    "Kandinsky6TI2VAPipeline",
    "LTX25ModularPipeline",
    "LTX2Pipeline",
    "LTXConditionPipeline",
    "MiniMaxH3ModularPipeline",
    "MochiPipeline",
    "MotifVideoPipeline",
    "SanaPipeline",
    "SanaVideoPipeline",
    "SkyReelsV2DiffusionForcingPipeline",
    "SkyReelsV2ImageToVideoPipeline",
    "SkyReelsV2Pipeline",
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableVideoDiffusionPipeline",
    "WanAnimatePipeline",
    "WanImageToVideoPipeline",
    "WanPipeline",
    "WanVACEPipeline",
)
REQUIRED = """
builtin text-to-video-ms-1.7b zeroscope-v2-576w zeroscope-v2-xl videocrafter2 videocrafter1 animatediff animatelcm
stable-video-diffusion i2vgen-xl cogvideox-2b cogvideox-5b ltx-video ltx-2 wan-2.1-1.3b wan-2.1-14b wan-2.1-i2v-14b
wan-2.2-5b wan-2.2-14b hunyuanvideo-1.5 mochi sana-video skyreels-v2-df-1.3b skyreels-v2-14b
sd15 sdxl sdxl-turbo flux-schnell sana
ltx-2.5 minimax-h3
ltx-2.3-distilled anyflow-1.3b anyflow-14b helios motif-video-2b kandinsky-5-lite kandinsky-5-i2v kandinsky-6-lite
wan-2.1-flf2v-14b wan-2.1-vace-1.3b wan-2.1-vace-14b wan-2.2-i2v-14b cogvideox-5b-i2v hunyuanvideo-1.5-i2v
"""

each = pytest.mark.parametrize("model", MODELS, ids=NAMES)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("beginning") / "picture.png"
    Image.new("RGB", (8, 8), (200, 40, 40)).save(path)
    return path


def plan(model: Model, begins: str, picture: Path, **fields: object) -> Plan:
    """The Plan of a request for this model that begins from `begins`; of the file only its bytes are looked at."""
    given = {} if begins == "text" else {begins: str(picture)}
    given |= {name: str(picture) for name in model.needs}
    if begins == "video" and "mask" in model.accepts:
        given["mask"] = str(picture)
    return resolve(Request.of(model=model.name, prompt="a red circle" if model.prompted else "", **given, **fields))


def test_the_models_people_ask_for_are_here() -> None:
    assert set(REQUIRED.split()) <= set(NAMES)
    assert len(MODELS) >= 24 and len(set(NAMES)) == len(NAMES)
    assert [name for name in NAMES if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)] == []


@each
def test_it_says_where_its_files_are_and_which_it_leads_to(model: Model) -> None:
    assert bool(model.repo) != bool(model.directory)
    assert re.fullmatch("[0-9a-f]{40}|unpinned", model.commit)
    assert model.bigger in NAMES and model.bigger != model.name
    assert set(model.inputs) & set(find(model.bigger).inputs), "it leads to a model that begins from the same input"
    assert model.base in ("", *NAMES)
    assert model.variant in ("", "fp16", "bf16")
    assert model.commercial in ("yes", "no", "limits", "unclear") and model.licence
    for text in (model.title, model.summary, model.good_at, model.faults):
        assert text and text == text.strip() and not text.endswith(".")


@each
def test_every_figure_has_a_value_and_every_source_a_figure(model: Model) -> None:
    assert model.parameters > 0
    assert (model.download_gb > 0) == bool(model.repo)
    assert model.memory_gib and set(model.memory_gib) <= PRECISIONS
    assert all(gib > 0 for gib in model.memory_gib.values())
    full = model.memory_gib.get("fp32", float("inf"))
    assert all(gib <= full for gib in model.memory_gib.values())
    assert set(model.seen) <= set(Model.model_fields) and all(model.seen.values())
    if model.family == "pipeline":
        assert {"num_frames", "num_inference_steps", "guidance_scale"} <= set(model.seen)


@each
def test_a_family_and_what_belongs_to_it(model: Model) -> None:
    assert model.family in ("unet", "pipeline")
    if model.family == "unet":
        assert not (model.pipeline or model.base or model.call)
        published = {"ddim-eta1"} if model.name.startswith("videocrafter") else set()
        assert set(model.schedulers) == {"ddim", "dpm++", "unipc"} | published
    else:
        assert model.pipeline in PIPELINES and not model.window and not model.convert
        assert set(model.schedulers) <= {"native", "ddim", "dpm++", "unipc", "euler", "lcm"}


def test_the_classes_named_here_are_those_of_the_entries() -> None:
    assert sorted({model.pipeline for model in MODELS} - {""}) == list(PIPELINES)


@each
def test_its_ranges_hold_their_defaults(model: Model) -> None:
    for name in ("num_frames", "num_inference_steps", "guidance_scale", "fps", "strength"):
        allowed: Whole | Real | None = getattr(model, name)
        if allowed is None:
            continue
        smallest, largest = allowed.range
        assert smallest <= allowed.default <= largest, name
        if isinstance(allowed, Whole):
            assert smallest >= 1 and (largest - smallest) % allowed.every == 0, name
            assert (allowed.default - smallest) % allowed.every == 0, name
    assert model.guidance_scale.range[0] >= 1


@each
def test_its_sizes_obey_its_own_multiples(model: Model) -> None:
    assert len(set(model.sizes)) == len(model.sizes)
    for width, height in model.sizes:
        assert width % 8 == height % 8 == 0
        if model.sides is not None:
            smallest, largest = model.sides.range
            assert width % model.sides.multiple == height % model.sides.multiple == 0
            assert smallest <= min(width, height) and max(width, height) <= largest


@each
def test_its_defaults_make_a_plan_from_whatever_it_begins(model: Model, picture: Path) -> None:
    for begins in model.inputs:
        made = plan(model, begins, picture)
        assert (made.num_frames, made.num_inference_steps) == (
            model.num_frames.default,
            model.num_inference_steps.default,
        )
        assert (made.guidance_scale, made.fps) == (model.guidance_scale.default, model.fps.default)
        assert (made.width, made.height) == model.sizes[0]
        assert made.scheduler == model.schedulers[0] and made.negative_prompt == model.negative_prompt
        has_input = begins != "text"
        assert made.strength == (model.strength.default if has_input and model.strength is not None else None)
        assert made.container == ("png" if model.num_frames.default == 1 else "mp4")
        assert Plan.from_json(made.to_json()) == made


@each
def test_the_ends_of_its_ranges_make_plans_too(model: Model, picture: Path) -> None:
    for end in (0, 1):
        fields = {name: getattr(model, name).range[end] for name in ("num_frames", "guidance_scale", "fps")}
        steps = max(model.num_inference_steps.range[end], 2)
        made = plan(model, model.inputs[0], picture, num_inference_steps=steps, **fields)
        assert made.num_frames == model.num_frames.range[end]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        # Even numbers of latent frames come out of this autoencoder longer than they were asked for.
        ("cogvideox-2b", 41, 45),
        ("ltx-video", 97, 101),
        ("wan-2.1-1.3b", 49, 50),
        ("mochi", 79, 81),
    ],
)
def test_frames_come_in_the_steps_of_the_autoencoder(name: str, right: int, wrong: int, picture: Path) -> None:
    assert plan(find(name), "text", picture, num_frames=right).num_frames == right
    with pytest.raises(RequestError, match=f"num_frames={wrong}: must be"):
        plan(find(name), "text", picture, num_frames=wrong)


#: Files that repositories hold: what is wanted of them, and what is a double, a training file or another format.
LISTINGS = {
    "mochi": (
        ["model_index.json", "transformer/diffusion_pytorch_model.bf16-00001-of-00003.safetensors"]
        + ["text_encoder/model-00001-of-00004.safetensors", "vae/diffusion_pytorch_model.bf16.safetensors"],
        ["dit.safetensors", "decoder.safetensors", "vae/diffusion_pytorch_model.safetensors"]
        + ["transformer/diffusion_pytorch_model-00001-of-00005.safetensors"],
    ),
    "ltx-2": (
        ["text_encoder/model-00001-of-00011.safetensors", "text_encoder/model.safetensors.index.json"]
        + ["text_encoder/config.json", "connectors/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.model"],
        ["text_encoder/diffusion_pytorch_model-00001-of-00012.safetensors", "ltx-2-19b-dev.safetensors"]
        + ["latent_upsampler/diffusion_pytorch_model.safetensors"],
    ),
    "stable-video-diffusion": (
        ["unet/diffusion_pytorch_model.fp16.safetensors", "feature_extractor/preprocessor_config.json"],
        ["svd_xt.safetensors", "svd_xt_image_decoder.safetensors", "unet/diffusion_pytorch_model.safetensors"],
    ),
    "i2vgen-xl": (
        ["unet/diffusion_pytorch_model.fp16.safetensors", "scheduler/scheduler_config.json"],
        ["models/i2vgen_xl_00854500.pth", "unet/diffusion_pytorch_model.safetensors"],
    ),
    "sd15": (
        [
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.fp16.safetensors",
            "tokenizer/merges.txt",
        ],
        ["v1-5-pruned.ckpt", "v1-5-pruned-emaonly.safetensors", "safety_checker/model.fp16.safetensors"]
        + ["unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin"],
    ),
    "sdxl": (
        ["text_encoder_2/model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"],
        ["sd_xl_base_1.0.safetensors", "vae_1_0/diffusion_pytorch_model.safetensors", "unet/model.onnx"],
    ),
    "flux-schnell": (
        ["transformer/diffusion_pytorch_model-00001-of-00003.safetensors", "text_encoder_2/config.json"],
        ["flux1-schnell.safetensors", "ae.safetensors"],
    ),
    "animatelcm": (
        ["config.json", "diffusion_pytorch_model.safetensors", "AnimateLCM_sd15_t2v_lora.safetensors"],
        ["AnimateLCM_sd15_t2v.ckpt", "diffusion_pytorch_model.fp16.safetensors"],
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_nothing_is_pulled_twice(name: str) -> None:
    model, (pulled, rest) = find(name), LISTINGS[name]
    chosen = choose([File(path, 1) for path in (*pulled, *rest)], model.variant, model.files)
    assert [file.name for file in chosen] == sorted(pulled)


def test_the_page_has_a_row_for_each() -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` (\|.*\|)$", page, re.MULTILINE))
    assert sorted(rows) == sorted(NAMES)
    for model in MODELS:
        width, height = model.sizes[0]
        download = f"| {model.download_gb:g} GB" if model.download_gb else "| none |"
        believed = "(believed)" if model.download_gb and "download_gb" not in model.seen else ""
        for part in (
            f"| {width}x{height}",
            f": {model.commercial} |",
            f"| {', '.join(model.inputs)} |",
            download,
            believed,
        ):
            assert part in rows[model.name], model.name
        pinned = bool(model.directory) or model.commit != "unpinned"
        assert rows[model.name].endswith(", not pinned |") != pinned, model.name


GUIDES = {
    "last frame": "last_image",
    "images at frames or times": "conditions",
    "a strength for each of them": "condition_strength",
    "reference images": "reference_images",
    "control video": "control_video",
    "face video": "face_video",
    "mask of a video": "mask",
}


def test_the_page_lists_what_each_model_reads_over_time() -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    for title, guide in GUIDES.items():
        row = re.search(rf"^\| {title} \|(.*)\|$", page, re.MULTILINE)
        assert row is not None, title
        assert re.findall("`([^`]+)`", row[1]) == [model.name for model in MODELS if guide in model.accepts], title


@pytest.mark.slow
def test_diffusers_has_the_classes_and_their_calls_take_what_is_said() -> None:
    import inspect

    import diffusers

    from flickbook.engine.pipelines.modular.blocks import BLOCKS

    for model in MODELS:
        if model.pipeline:
            if model.pipeline in BLOCKS:
                known = {each.name for each in BLOCKS[model.pipeline]().inputs}
            else:
                known = set(inspect.signature(getattr(diffusers, model.pipeline).__call__).parameters)
            assert set(model.call) <= known, model.name
            assert ("prompt" in known) == model.prompted, model.name
