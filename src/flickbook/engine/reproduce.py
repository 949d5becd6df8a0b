"""A film made again from what its file says, and a verdict on whether it is the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from flickbook import catalogue
from flickbook.engine import beginning, place
from flickbook.engine.evidence import Evidence, gather
from flickbook.engine.films import Means, films, forget
from flickbook.engine.polish import weights_of
from flickbook.engine.sequence import made as made_sequence
from flickbook.errors import ModelNotFound, WeightsError
from flickbook.files import sha256
from flickbook.hub.find import directory
from flickbook.media.carried import carried
from flickbook.media.clip import Clip
from flickbook.media.read import read_any
from flickbook.media.similarity import psnr
from flickbook.media.write import targets
from flickbook.spec import Recipe, Request, Step, Treatment

#: Films whose decoded frames are this alike, dB, are called the same: a difference nobody sees.
SAME_DB: Final = 40.0
Outcome = Literal["identical", "same", "differs"]
EXIT_CODES: Final[dict[Outcome, int]] = {"identical": 0, "same": 10, "differs": 11}


@dataclass(frozen=True)
class Verdict:
    """What making a film again showed.

    `psnr` is between both decoded files, dB, infinite where they are equal, None where nothing could be made or the
    sizes differ. `causes` say what is not as it was; `clip` is the film that was made.
    """

    outcome: Outcome
    psnr: float | None
    causes: tuple[str, ...]
    clip: Clip | None = None

    @property
    def exit_code(self) -> int:
        """0 identical, 10 the same to the eye, 11 another film."""
        return EXIT_CODES[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: outcome, exit_code, identical_files, psnr (None where unknown or infinite), causes."""
        equal = self.psnr == float("inf")
        psnr = None if equal else self.psnr
        found = {"outcome": self.outcome, "exit_code": self.exit_code, "identical_files": equal}
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
    for a file without a recipe, HubError for a model that was not pulled.
    """
    recipe, run = carried(path)
    evidence = gather(recipe.plan, path, given, None if run is None else run.inputs)
    causes = list(evidence.missing)
    try:
        others = list(_weights(recipe, model_dir))
        if others:
            forget()  # a model that is warm was read before its files changed
        causes += [*others, *_elsewhere(recipe)]
        if evidence.missing:
            return Verdict("differs", None, tuple(causes))
        clip = again(recipe, evidence, model_dir, on_step, cancel)
    except (WeightsError, ModelNotFound) as error:
        return Verdict("differs", None, tuple(causes or [str(error)]))
    return _compared(path, recipe, clip, causes)


def _compared(path: Path, recipe: Recipe, clip: Clip, causes: Sequence[str]) -> Verdict:
    """The verdict on a film and what was made again; both are compared as files."""
    assert clip.recipe is not None
    equal = clip.recipe.frames_sha256 == recipe.frames_sha256
    likeness = _likeness(path, recipe, clip)
    if equal and likeness is not None and likeness >= SAME_DB:
        return Verdict("identical", likeness, tuple(causes), clip)
    if equal:
        changed = "the file's own pictures are not those of its recipe: it was changed after it was written"
        return Verdict("differs", likeness, (changed, *causes), clip)
    if likeness is not None and likeness >= SAME_DB:
        return Verdict("same", likeness, tuple(causes), clip)
    none = "no cause was found: same weights, inputs, libraries and device"
    return Verdict("differs", likeness, tuple(causes or [none]), clip)


def _likeness(path: Path, recipe: Recipe, clip: Clip) -> float | None:
    """PSNR, dB, between the file and what was made again, encoded as the file is; None for other sizes."""
    with tempfile.TemporaryDirectory() as scratch:
        other = clip.save(Path(scratch) / path.name)
        files = [targets(each, len(clip.frames)) for each in (other, path)]
        if all(_equal(ours, theirs) for ours, theirs in zip(*files, strict=True)):
            return float("inf")
        ours, theirs = read_any(other)[0], read_any(path)[0]
    return psnr(ours, theirs) if ours.shape == theirs.shape else None


def _equal(ours: Path, theirs: Path) -> bool:
    try:
        return sha256(ours) == sha256(theirs)
    except OSError:  # fewer numbered frames than there were
        return False


def again(
    recipe: Recipe,
    evidence: Evidence,
    model_dir: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Clip:
    """The film of a recipe, made again as it was made: on the same placement and threads, in a batch of as many."""
    found, plan = evidence.found, recipe.plan
    if isinstance(plan, Treatment):
        from flickbook.engine.treat import joined, treated

        frames = joined([found[digest] for digest in plan.sources], plan.fade, plan.fit)
        return treated(plan, frames[0], networks=found, on_step=on_step)
    image, video = found.get(plan.image), found.get(plan.video)
    request = Request(
        prompt=plan.prompt,
        image=None if image is None else str(image),
        video=None if video is None else str(video),
    )
    means = Means(
        model_dir=model_dir,
        loras=tuple((found[lora.sha256], lora.weight) for lora in plan.loras),
        sources=beginning.sources(plan, request),
        networks=found,
        inputs={digest: str(path.absolute()) for digest, path in found.items()},
        placement=recipe.placement.model_copy(update={"rungs": ()}),
    )
    with place.threads(recipe.kernels.get("threads")):
        if plan.task == "sequence":
            return made_sequence(plan, means, on_step=on_step, cancel=cancel)
        copies = [plan] * recipe.placement.batch
        return next(films(copies, means, on_step=on_step, cancel=cancel))


def _weights(recipe: Recipe, model_dir: Path | None) -> Iterator[str]:
    """A sentence about each weight file that is not the recipe's."""
    plan = recipe.plan
    if isinstance(plan, Treatment):
        return
    model = catalogue.find(plan.model)
    home = directory(model if model_dir is None else model.at(model_dir))
    base = directory(catalogue.find(model.base)) if model.base else home
    own = {name: digest for name, digest in recipe.weights.items() if name not in weights_of(plan.polish)}
    for name, digest in own.items():
        part = (
            base / name.removeprefix(f"{model.base}/")
            if model.base and name.startswith(f"{model.base}/")
            else home / name
        )
        if not part.is_file():
            yield f"the weights {name} are not here, SHA-256 {digest}"
        elif (here := sha256(part)) != digest:
            yield f"the weights {name} have SHA-256 {here}, the recipe says {digest}"


def _elsewhere(recipe: Recipe) -> Iterator[str]:
    """A sentence about each library, device and kernel that is not the recipe's."""
    here = place.versions(tuple(recipe.versions))
    for name, version in recipe.versions.items():
        if here.get(name) != version:
            yield f"{name} is {here.get(name, 'not installed')} here, {version} in the recipe"
    device = place.confirmed(recipe.placement).device
    name = place.device_name(device)
    if (device, name) != (recipe.placement.device, recipe.device_name):
        yield f"the device is {device} ({name}) here, {recipe.placement.device} ({recipe.device_name}) in the recipe"
    kernels = {name: value for name, value in place.kernels(device).items() if name != "threads"}
    for name, value in recipe.kernels.items():
        if name in kernels and kernels[name] != value:
            yield f"the kernels' {name} is {kernels[name]} here, {value} in the recipe"
