"""The width and height of a film: those that a model makes, and how to get a larger one."""

from __future__ import annotations

from flickbook.catalogue import Model, Sides, list_models
from flickbook.errors import RequestError
from flickbook.spec import LatentUpsample, Request

#: The largest factor of --upscale.
UPSCALE_LIMIT = 4


def size_of(request: Request, model: Model) -> tuple[int, int]:
    """Return the first of the model's sizes with the requested width and height. Raises RequestError."""
    for width, height in model.sizes:
        if request.width in (None, width) and request.height in (None, height):
            return width, height
    if model.sides is not None:
        return _sides(request, model, model.sides)
    known = ", ".join(f"{width}x{height}" for width, height in model.sizes)
    widths = {width for width, _ in model.sizes}
    wrong = "height" if request.width is None or request.width in widths else "width"
    remedy = _larger(request, model) or f"ask for {known} or leave the size out"
    raise RequestError(wrong, getattr(request, wrong), f"{model.name} makes {known}", remedy)


def upsampling_of(request: Request, model: Model, width: int, height: int) -> LatentUpsample:
    """How the film's latents are doubled, "" if not at all. Raises RequestError for a model that cannot do this, for a
    size whose half the model does not make, and for latents to continue from, which have the whole size."""
    kind = request.latent_upsample
    if not kind:
        return ""
    able = [
        other.name for other in list_models() if (has := other.latent_upsampler) and (has.refine or kind == "plain")
    ]
    named = f"choose a model that can: {', '.join(able)}"
    if model.latent_upsampler is None:
        limit = f"{model.name} has no latent upsampler"
        raise RequestError("latent_upsample", kind, limit, f"leave it out, or {named}")
    if kind == "refine" and not model.latent_upsampler.refine:
        limit = f"{model.name} has no settings to denoise doubled latents again"
        raise RequestError("latent_upsample", kind, limit, f"ask for plain, or {named}")
    if request.latents is not None or request.overlap:
        limit = "a film that continues from latents begins at its whole size"
        raise RequestError("latent_upsample", kind, limit, "leave it out, or begin from an image")
    (smallest, largest), step = (
        (model.sides.range, model.sides.multiple) if model.sides else ((1, max(width, height)), 1)
    )
    for name, side in (("width", width), ("height", height)):
        if side % (2 * step) or side < 2 * smallest:
            near = min(max(round(side / 2 / step), -(-smallest // step)) * 2 * step, largest // (2 * step) * 2 * step)
            limit = f"must be at least {2 * smallest} and a multiple of {2 * step} with latent_upsample"
            raise RequestError(name, side, limit, f"ask for {near}, or leave latent_upsample out")
    return kind


def _sides(request: Request, model: Model, sides: Sides) -> tuple[int, int]:
    """Return a size that is not native. A side that is not requested is that of the first native size."""
    width, height = model.sizes[0]
    chosen = {
        "width": width if request.width is None else request.width,
        "height": height if request.height is None else request.height,
    }
    smallest, largest = sides.range
    near = {
        name: min(max(round(value / sides.multiple) * sides.multiple, smallest), largest)
        for name, value in chosen.items()
    }
    for name, value in chosen.items():
        if not smallest <= value <= largest or value % sides.multiple:
            limit = f"each side must be {smallest} to {largest} and a multiple of {sides.multiple}"
            larger = _larger(request, model)
            remedy = f"ask for {near['width']}x{near['height']}{', or ' if larger else ''}{larger}"
            raise RequestError(name, value, limit, f"{remedy}; {model.name} was trained at {width}x{height}")
    return chosen["width"], chosen["height"]


def _larger(request: Request, model: Model) -> str:
    """How to get a size above the model's limit: by --upscale, or with another model; "" for any other size."""
    first = model.sizes[0]
    requested = (request.width or first[0], request.height or first[1])
    most = (
        [max(sides) for sides in zip(*model.sizes, strict=True)] if model.sides is None else model.sides.range[1:] * 2
    )
    if requested[0] <= most[0] and requested[1] <= most[1]:
        return ""
    (width, height), factor = _to_upscale(requested, model)
    upscaled = f"{width * factor}x{height * factor}"
    found = f"make {width}x{height} and add --upscale {factor}x, which gives {upscaled}"
    films = model.num_frames.range[1] > 1
    able = [
        other.name
        for other in list_models()
        if {*model.inputs} & {*other.inputs} and (other.num_frames.range[1] > 1) == films and _makes(other, requested)
    ]
    return f"{found}, or choose a larger model, for example --model {able[0]}" if able else found


def _to_upscale(requested: tuple[int, int], model: Model) -> tuple[tuple[int, int], int]:
    """The size to make, and the factor that brings it to `requested` or, with the largest factor, nearest to it."""
    width, height = requested
    # Of the native sizes, the one whose aspect ratio is nearest.
    base = min(model.sizes, key=lambda size: abs(size[0] * height - size[1] * width) // size[1])
    for factor in range(2, UPSCALE_LIMIT + 1):
        if model.sides is not None:
            multiple, (smallest, _) = model.sides.multiple, model.sides.range
            least = [max(smallest, -(-side // (factor * multiple)) * multiple) for side in requested]  # rounded up
            base = (least[0], least[1])
            if not _makes(model, base):
                base = model.sizes[0]
                continue
        if base[0] * factor >= width and base[1] * factor >= height:
            return base, factor
    return base, UPSCALE_LIMIT


def _makes(model: Model, size: tuple[int, int]) -> bool:
    """Whether a model makes films of this size."""
    if size in model.sizes or model.sides is None:
        return size in model.sizes
    smallest, largest = model.sides.range
    return all(smallest <= side <= largest and side % model.sides.multiple == 0 for side in size)
