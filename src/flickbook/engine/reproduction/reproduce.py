"""A film made again from what its file says, and a verdict on whether it is the same."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from flickbook import catalogue
from flickbook.engine.films import films, forget, run_options_of
from flickbook.engine.memory import device as place
from flickbook.engine.polish import Networks, weights_of
from flickbook.engine.reproduction.file_search import gather
from flickbook.engine.reproduction.rerun import sound
from flickbook.engine.sequences.sequence import made as made_sequence
from flickbook.engine.treat import joined, treated
from flickbook.errors import MediaError, MissingExtra, ModelNotFound, WeightsError
from flickbook.formats import CODECS, FORMS, digest, is_frames
from flickbook.hub.find import directory
from flickbook.hub.manifest import HashCache
from flickbook.media.clip import Clip
from flickbook.media.embedded import carried
from flickbook.media.metrics.similarity import psnr
from flickbook.media.read import read_any
from flickbook.spec import Placement, Recipe, Step, Treatment

#: Films whose decoded frames are this alike, dB, are called the same: a difference nobody sees.
SAME_DB: Final = 40.0
Outcome = Literal["identical", "same", "differs"]
EXIT_CODES: Final[dict[Outcome, int]] = {"identical": 0, "same": 10, "differs": 11}


@dataclass(frozen=True)
class Verdict:
    """What making a film again showed.

    `psnr` is between both decoded files, dB, infinite where every pixel is equal, None where nothing could be made or
    the sizes differ; `identical_files` says that every byte is. `causes` say what is not as it was; `clip` is the film
    that was made.
    """

    outcome: Outcome
    psnr: float | None
    causes: tuple[str, ...]
    clip: Clip | None = None
    identical_files: bool = False

    @property
    def exit_code(self) -> int:
        """0 identical, 10 the same to the eye, 11 another film."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: outcome, exit_code, identical_files, psnr (None where unknown or infinite), causes."""
        psnr = None if self.psnr == float("inf") else self.psnr
        found = {"outcome": self.outcome, "exit_code": self.exit_code, "identical_files": self.identical_files}
        return {**found, "psnr": psnr, "causes": list(self.causes), "said": self.line()}

    def line(self) -> str:
        """For people: one line."""
        because = "; ".join(self.causes)
        if self.outcome == "identical":
            return "identical" + (f" (although {because})" if because else "")
        alike = "" if self.psnr is None else f"PSNR {_db(self.psnr)}"
        if self.outcome == "same":
            return f"same within {alike}" + (f" ({because})" if because else "")
        return f"differs because {because}" + (f" ({alike})" if alike else "")


def _db(value: float) -> str:
    return "infinite: every pixel of both files is equal" if value == float("inf") else f"{value:.1f} dB"


def reproduce(
    path: Path,
    *,
    given: Iterable[Path] = (),
    model_dir: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Verdict:
    """Make the film at `path` again from the recipe that it carries, and compare.

    `given` are files that the recipe names by their hash; they are also looked for beside the film. Raises MediaError
    for a file without a recipe, HubError for a model that was not pulled, RequestError for a recipe whose Plan no model
    would be given.
    """
    recipe, run = carried(path)
    film = _film(path, recipe)
    evidence = gather(recipe.plan, path, given, None if run is None else run.inputs)
    causes, others = list(evidence.missing), list[str]()
    try:
        others += _weights(recipe, model_dir)
        if others:
            forget()  # a model that is warm was read before its files changed
        causes += [*others, *_elsewhere(recipe)]
        if evidence.missing:
            return Verdict("differs", None, tuple(causes))
        clip = again(recipe, evidence.found, model_dir, on_step, cancel)
    except (WeightsError, ModelNotFound, MissingExtra) as error:
        # What was found about the weights says it already.
        return Verdict("differs", None, tuple(causes if others else [*causes, str(error)]))
    assert clip.recipe is not None
    return _compared(film, recipe, clip, [*causes, *_otherwise(recipe, clip.recipe)])


def _film(path: Path, recipe: Recipe) -> Path:
    """The film that a person named: of numbered frames all of them, whichever of their files was given."""
    if recipe.plan.container != "frames" or is_frames(path):
        return path
    pattern = path.with_name(re.sub(r"([0-9]+)(?=[^0-9]*$)", lambda found: f"%0{len(found[1])}d", path.name, count=1))
    if not is_frames(pattern) or len(str(path.name)) > 255:
        raise MediaError(path, "is one of numbered frames under another name", "name them all, as shot-%04d.png")
    return pattern


def _compared(path: Path, recipe: Recipe, clip: Clip, causes: Sequence[str]) -> Verdict:
    """The verdict on a film and what was made again; both are compared as files."""
    assert clip.recipe is not None
    likeness, bytes_equal = _likeness(path, recipe, clip)
    verdict = partial(Verdict, psnr=likeness, clip=clip, identical_files=bytes_equal)
    alike = likeness is not None and likeness >= SAME_DB
    if clip.recipe.frames_sha256 == recipe.frames_sha256:
        # Another FFmpeg or Pillow, or a card's encoder, may write the same frames a little otherwise.
        same_writer = all(recipe.versions.get(name) == clip.recipe.versions.get(name) for name in ("av", "pillow"))
        exact = same_writer and not CODECS.get(recipe.plan.codec, CODECS["h264"]).hardware
        if likeness == float("inf") or (alike and not exact):
            return verdict("identical", causes=tuple(causes))
        changed = "the file's own pictures are not those of its recipe: it was changed after it was written"
        return verdict("differs", causes=(changed, *causes))
    if alike:
        return verdict("same", causes=tuple(causes))
    none = "no cause was found: same weights, inputs, libraries and device"
    return verdict("differs", causes=tuple(causes or [none]))


def _likeness(path: Path, recipe: Recipe, clip: Clip) -> tuple[float | None, bool]:
    """PSNR, dB, between the file and what was made again, encoded as the file was, None for other sizes; and whether
    the files are equal byte for byte."""
    ending = "-%04d.png" if recipe.plan.container == "frames" else FORMS[recipe.plan.container].suffixes[0]
    with tempfile.TemporaryDirectory() as scratch:
        other = clip.save(Path(scratch) / f"film{ending}")
        if digest(other) == digest(path):
            return float("inf"), True
        ours, theirs = read_any(other)[0], read_any(path)[0]
    return (psnr(ours, theirs) if ours.shape == theirs.shape else None), False


def _otherwise(recipe: Recipe, made: Recipe) -> Iterator[str]:
    """A sentence about what turned out another way than the recipe has it, although it was asked for."""
    here, there = made.kernels.get("threads"), recipe.kernels.get("threads")
    if there is not None and here != there:
        yield f"the kernels' threads are {here} here, {there} in the recipe"
    for name in Placement.model_fields:
        here, there = getattr(made.placement, name), getattr(recipe.placement, name)
        if name not in ("device", "rungs") and here != there:
            yield f"the placement's {name} is {here} here, {there} in the recipe"


def again(
    recipe: Recipe,
    found: Networks,
    model_dir: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Clip:
    """The film of a recipe, made again as it was made: on the same placement and threads, in a batch of as many.

    `found` are its inputs. Raises RequestError for a Plan that its model would not be given.
    """
    plan = recipe.plan
    if isinstance(plan, Treatment):
        frames, _ = joined([found[each] for each in plan.sources], plan.fade, plan.fit)
        # Without a network torch has no part in it, and would take a second.
        with place.threads(recipe.kernels.get("threads")) if recipe.kernels else nullcontext():
            return treated(plan, frames, networks=found, on_step=on_step)
    run_options = run_options_of(plan, sound(plan, found, model_dir), model_dir)
    run_options = replace(run_options, networks=found, placement=recipe.placement.model_copy(update={"rungs": ()}))
    with place.threads(recipe.kernels.get("threads")):
        if plan.task == "sequence":
            return made_sequence(plan, run_options, on_step=on_step, cancel=cancel)
        copies = [plan] * recipe.placement.batch
        return next(films(copies, run_options, on_step=on_step, cancel=cancel))


def _weights(recipe: Recipe, model_dir: Path | None) -> Iterator[str]:
    """A sentence about each weight file that is not the recipe's."""
    plan = recipe.plan
    if isinstance(plan, Treatment):
        return
    model = catalogue.find(plan.model)
    home = directory(model if model_dir is None else model.at(model_dir))
    base = directory(catalogue.find(model.base)) if model.base else home
    cache = HashCache.usual()
    own = {name: each for name, each in recipe.weights.items() if name not in weights_of(plan.polish)}
    for name, there in own.items():
        named = PurePosixPath(name.removeprefix(f"{model.base}/") if model.base else name)
        within = base if model.base and name.startswith(f"{model.base}/") else home
        # A recipe is a stranger's text: no other file is hashed for it.
        ours = not named.is_absolute() and ".." not in named.parts and named.suffix == ".safetensors"
        try:
            here = cache.sha256(within / named) if ours else None
        except WeightsError:
            here = None
        if here is None:
            yield f"the weights {name} are not here, SHA-256 {there}"
        elif here != there:
            yield f"the weights {name} have SHA-256 {here}, the recipe says {there}"


def _elsewhere(recipe: Recipe) -> Iterator[str]:
    """A sentence about each library, device and kernel that is not the recipe's."""
    here = place.versions(tuple(recipe.versions))
    for name, version in recipe.versions.items():
        if here.get(name) != version:
            yield f"{name} is {here.get(name, 'not installed')} here, {version} in the recipe"
    # Asking torch takes a second, and a processor is always there.
    device = "cpu" if recipe.placement.device == "cpu" else place.confirmed(recipe.placement).device
    name = place.device_name(device)
    if (device, name) != (recipe.placement.device, recipe.device_name):
        yield f"the device is {device} ({name}) here, {recipe.placement.device} ({recipe.device_name}) in the recipe"
    kernels = place.kernels(device) if recipe.kernels else {}
    for name, value in recipe.kernels.items():
        if name != "threads" and kernels.get(name, value) != value:
            yield f"the kernels' {name} is {kernels[name]} here, {value} in the recipe"
