"""Makes a film again from the Recipe in its file, and decides whether the result is the same."""

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
from flickbook.engine.reproduction.rerun import checked_request
from flickbook.engine.sequences.sequence import made as made_sequence
from flickbook.engine.shots.film import made as made_shots
from flickbook.engine.shots.film import run_options_for_shots
from flickbook.engine.soundtrack import tracks
from flickbook.engine.treat import joined, treated
from flickbook.errors import MediaError, MissingExtra, ModelNotFound, WeightsError
from flickbook.formats import CODECS, FORMS, SOUNDING, digest, is_frames
from flickbook.hub.find import UPSAMPLER, directory, latent_upsampler
from flickbook.hub.manifest import HashCache
from flickbook.media.clip import Clip
from flickbook.media.embedded import carried
from flickbook.media.metrics.similarity import psnr
from flickbook.media.read import read_any
from flickbook.media.read_sound import film_sound
from flickbook.media.sound.samples import difference
from flickbook.spec import Placement, Plan, Recipe, Step, Treatment

#: Films whose decoded frames have at least this PSNR (dB) count as the same: the difference is invisible.
SAME_DB: Final = 40.0
Outcome = Literal["identical", "same", "differs"]
EXIT_CODES: Final[dict[Outcome, int]] = {"identical": 0, "same": 10, "differs": 11}


@dataclass(frozen=True)
class Verdict:
    """The result of making a film again.

    `psnr` (dB) compares the decoded files; infinite if every pixel is equal, None if nothing was made or the sizes
    differ. `identical_files` means that every byte is equal. `causes` list what has changed since the Recipe; `clip` is
    the new film.
    """

    outcome: Outcome
    psnr: float | None
    causes: tuple[str, ...]
    clip: Clip | None = None
    identical_files: bool = False

    @property
    def exit_code(self) -> int:
        """0 for identical, 10 for visually the same, 11 for another film."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary for JSON: outcome, exit_code, identical_files, psnr (None if unknown or infinite), causes."""
        psnr = None if self.psnr == float("inf") else self.psnr
        found = {"outcome": self.outcome, "exit_code": self.exit_code, "identical_files": self.identical_files}
        return {**found, "psnr": psnr, "causes": list(self.causes), "said": self.line()}

    def line(self) -> str:
        """One line for the user."""
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
    files: Iterable[Path] = (),
    model_dir: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Verdict:
    """Make the film at `path` again from its Recipe, and compare the two.

    `files` are candidates for the Recipe's input files, which are also looked for next to the film. Raises MediaError
    for a file without a Recipe, HubError for a model that is not downloaded, RequestError for a Recipe whose Plan its
    model does not accept.
    """
    recipe, run = carried(path)
    film = _film(path, recipe)
    evidence = gather(recipe.plan, path, files, None if run is None else run.inputs)
    causes, others = list(evidence.missing), list[str]()
    try:
        others += _weights(recipe, model_dir)
        if others:
            forget()  # a loaded model was read before its files changed
        causes += [*others, *_elsewhere(recipe)]
        if evidence.missing:
            return Verdict("differs", None, tuple(causes))
        clip = again(recipe, evidence.found, model_dir, on_step, cancel)
    except (WeightsError, ModelNotFound, MissingExtra) as error:
        # A cause about the weights explains it already.
        return Verdict("differs", None, tuple(causes if others else [*causes, str(error)]))
    assert clip.recipe is not None
    return _compared(film, recipe, clip, [*causes, *_otherwise(recipe, clip.recipe)])


def _film(path: Path, recipe: Recipe) -> Path:
    """The path of the whole film: for one file of numbered frames, the pattern of all of them."""
    if recipe.plan.container != "frames" or is_frames(path):
        return path
    pattern = path.with_name(re.sub(r"([0-9]+)(?=[^0-9]*$)", lambda found: f"%0{len(found[1])}d", path.name, count=1))
    if not is_frames(pattern) or len(str(path.name)) > 255:
        raise MediaError(path, "is one of several numbered frames", "name all frames, as shot-%04d.png")
    return pattern


def _compared(path: Path, recipe: Recipe, clip: Clip, causes: Sequence[str]) -> Verdict:
    """The Verdict on a film and its reproduction, both compared as files."""
    assert clip.recipe is not None
    likeness, heard, bytes_equal = _likeness(path, recipe, clip)
    verdict = partial(Verdict, psnr=likeness, clip=clip, identical_files=bytes_equal)
    alike = likeness is not None and likeness >= SAME_DB
    equal = clip.recipe.frames_sha256 == recipe.frames_sha256 and clip.recipe.audio_sha256 == recipe.audio_sha256
    if not heard >= SAME_DB:
        sounds = "the sound in the file is not that of its recipe: the file was changed after it was written"
        return verdict("differs", causes=(sounds if equal else "the sound is a different one", *causes))
    if equal:
        # Another FFmpeg or Pillow, or a hardware encoder, may encode the same frames slightly differently.
        same_writer = all(recipe.versions.get(name) == clip.recipe.versions.get(name) for name in ("av", "pillow"))
        exact = same_writer and not CODECS.get(recipe.plan.codec, CODECS["h264"]).hardware
        if likeness == float("inf") or (alike and not exact):
            return verdict("identical", causes=tuple(causes))
        changed = "the frames in the file are not those of its recipe: the file was changed after it was written"
        return verdict("differs", causes=(changed, *causes))
    if alike:
        return verdict("same", causes=tuple(causes))
    none = "no cause was found: same weights, inputs, libraries and device"
    return verdict("differs", causes=tuple(causes or [none]))


def _likeness(path: Path, recipe: Recipe, clip: Clip) -> tuple[float | None, float, bool]:
    """Compare the file and the reproduction in the same encoding: PSNR of the frames (dB, None if their sizes differ),
    the same of their sounds, and whether both files are equal byte for byte."""
    ending = "-%04d.png" if recipe.plan.container == "frames" else FORMS[recipe.plan.container].suffixes[0]
    with tempfile.TemporaryDirectory() as scratch:
        other = clip.save(Path(scratch) / f"film{ending}")
        if digest(other) == digest(path):
            return float("inf"), float("inf"), True
        ours, theirs = read_any(other)[0], read_any(path)[0]
        heard = _heard(other, path) if recipe.plan.container in SOUNDING else float("inf")
    return (psnr(ours, theirs) if ours.shape == theirs.shape else None), heard, False


def _heard(one: Path, other: Path) -> float:
    """The ratio (dB) of full scale to the difference of two films' sounds; -infinity if only one has a sound."""
    ours, theirs = film_sound(one), film_sound(other)
    if ours is None or theirs is None:
        return float("inf") if ours is theirs else float("-inf")
    return difference(ours, theirs)


def _otherwise(recipe: Recipe, made: Recipe) -> Iterator[str]:
    """A sentence for each setting of the Recipe that the reproduction did not get, although it was requested."""
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
    """Make the film of a Recipe again, with the same placement, threads and batch size.

    `found` are its inputs. Raises RequestError for a Plan that its model does not accept.
    """
    plan = recipe.plan
    if isinstance(plan, Treatment):
        heard = not plan.audio
        frames, _, sound = joined([found[each] for each in plan.sources], plan.fade, plan.fit, heard)
        track = plan.track()
        under = tracks(plan, str(found[track]) if track else None)
        # Without a network torch is not involved; importing it would take a second.
        with place.threads(recipe.kernels.get("threads")) if recipe.kernels else nullcontext():
            return treated(plan, frames, networks=found, on_step=on_step, sound=sound, tracks=under)
    request = checked_request(plan, found, model_dir)
    if plan.task == "shots":
        run_options = replace(run_options_for_shots(plan, request, model_dir), networks=found)
        return made_shots(plan, run_options, on_step=on_step, cancel=cancel, how=recipe.shots)
    run_options = run_options_of(plan, request, model_dir)
    run_options = replace(run_options, networks=found, placement=recipe.placement.model_copy(update={"rungs": ()}))
    with place.threads(recipe.kernels.get("threads")):
        if plan.task == "sequence":
            return made_sequence(plan, run_options, on_step=on_step, cancel=cancel)
        copies = [plan] * recipe.placement.batch
        return next(films(copies, run_options, on_step=on_step, cancel=cancel))


def _weights(recipe: Recipe, model_dir: Path | None) -> Iterator[str]:
    """A sentence for each weight file that differs from the Recipe's."""
    plan = recipe.plan
    if isinstance(plan, Treatment):
        return
    if plan.shots:
        for number, (shot, made) in enumerate(zip(plan.shots, recipe.shots, strict=False), 1):
            alone = recipe.model_copy(update={"plan": shot.plan, "weights": made.weights, "shots": ()})
            yield from (f"shot {number}: {cause}" for cause in _weights(alone, model_dir))
        return
    model = catalogue.find(plan.model)
    home = directory(model if model_dir is None else model.at(model_dir))
    homes = {each.name: directory(each) for each in catalogue.bases(model)}
    upsampler = latent_upsampler(model) if plan.latent_upsample else None
    homes |= {} if upsampler is None else {UPSAMPLER: upsampler}
    cache = HashCache.usual()
    hashes = {name: each for name, each in recipe.weights.items() if name not in weights_of(plan.polish)}
    for name, recorded in hashes.items():
        base = name.partition("/")[0] if name.partition("/")[0] in homes else ""
        named = PurePosixPath(name.removeprefix(f"{base}/") if base else name)
        within = homes.get(base, home)
        # A Recipe is untrusted: only weight files inside the model's directory are hashed for it.
        ours = not named.is_absolute() and ".." not in named.parts and named.suffix == ".safetensors"
        try:
            here = cache.sha256(within / named) if ours else None
        except WeightsError:
            here = None
        if here is None:
            yield f"the weights {name} with SHA-256 {recorded} are not on this machine"
        elif here != recorded:
            yield f"the weights {name} have SHA-256 {here}, the recipe says {recorded}"


def _elsewhere(recipe: Recipe) -> Iterator[str]:
    """A sentence for each library, device and kernel setting that differs from the Recipe's."""
    here = place.versions(tuple(recipe.versions))
    for name, version in recipe.versions.items():
        if here.get(name) != version:
            yield f"{name} is {here.get(name, 'not installed')} here, {version} in the recipe"
    # Importing torch takes a second, and a CPU needs no check.
    device = "cpu" if recipe.placement.device == "cpu" else place.confirmed(recipe.placement).device
    name = place.device_name(device)
    if (device, name) != (recipe.placement.device, recipe.device_name):
        yield f"the device is {device} ({name}) here, {recipe.placement.device} ({recipe.device_name}) in the recipe"
    kernels = place.kernels(device) if recipe.kernels else {}
    family = catalogue.find(recipe.plan.model).family if isinstance(recipe.plan, Plan) else ""
    for name, value in place.completed(recipe.kernels, family).items():
        if name != "threads" and kernels.get(name, value) != value:
            yield f"the kernels' {name} is {kernels[name]} here, {value} in the recipe"
