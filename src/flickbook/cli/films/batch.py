"""`flickbook batch`: makes one film for each row of a file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.films import output_path
from flickbook.cli.films.making import Extras, fields, prepared, require_model
from flickbook.cli.progress import ProgressLine
from flickbook.engine.rows import Row, at, merged, read, turns_of
from flickbook.errors import Cancelled, FlickbookError, OutputError

if TYPE_CHECKING:
    from flickbook.engine.batch import Failure, Film, Seeds, Sheet, Template
    from flickbook.media.clip import Clip
    from flickbook.spec import Plan, Recipe, Run

File = Annotated[Path, typer.Argument(help="One film per row: .csv, .jsonl or .toml.")]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="TEMPLATE", help="Files to write, with {number}, {slug}, {seed}, {model} or {name}."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be made and what exists; make nothing.")]
#: Marks the PNG of a sheet, so that no other image is overwritten by one.
_MARK = "flickbook batch"
#: The most lines of one kind that are printed.
_LINES = 10


@options.taking(film=options.FILM, polish=options.FINISH, encoding=options.ENCODING)
def batch(
    file: File,
    film: Any,
    polish: Any,
    encoding: Any,
    model_dir: options.ModelDir = None,
    precision: options.Precision = "auto",
    output: Output = None,
    overwrite: options.Overwrite = False,
    dry_run: DryRun = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> int:
    """Make one film per row of a file, and a contact sheet. Run the same command again to resume."""
    from flickbook import settings
    from flickbook.engine.batch import Seeds, Template
    from flickbook.formats import container_of

    chosen = settings.load()
    console.start(chosen.log_level)
    rows, defaults = read(file)
    template = Template("{number}-{slug}", chosen.output_dir / file.stem) if output is None else Template(output)
    if output is not None:
        container_of(output)  # placeholders never contain the suffix
    seeds = Seeds(template.home / f"{file.stem}-seeds.json", overwrite)
    all_options = {**film, **polish, **encoding}
    # 0 equals False, but is a value.
    set_options = {name: value for name, value in all_options.items() if value is not False and value not in (None, [])}
    with at("defaults"):
        common = merged({"model": chosen.model}, defaults)
    common = merged(common, set_options)
    order = _Order(
        common, template, output is None, seeds, len(rows), Extras({}, (), model_dir, precision, yes=yes), dry_run
    )
    work = _Work(order.films(rows), seeds, template.home / f"{file.stem}-sheet.png", overwrite, as_json, order.extras)
    work.check()
    if dry_run:
        work.preview()
        return 0
    work.run()
    return work.tell()


@dataclass(frozen=True)
class _Order:
    """How rows become films. `count` is the number of rows; with `suffix`, names get their container's suffix."""

    common: Mapping[str, Any]
    template: Template
    suffix: bool
    seeds: Seeds
    count: int
    extras: Extras
    dry_run: bool

    def films(self, rows: Sequence[Row]) -> list[Film]:
        """Resolve the films of all rows. Raises what `prepared` raises, which names the row."""
        found = []
        for row in rows:
            with at(f"row {row.number}"):
                found.append(self._film(row))
        return found

    def _film(self, row: Row) -> Film:
        from flickbook.engine.batch import Film
        from flickbook.spec import Request

        values = merged(self.common, row.values)
        drawn = values.get("seed") is None
        if drawn:
            values["seed"] = self.seeds.get(row)
        names = (*options.FILM, *options.ENCODING, *options.FINISH, "width", "height")
        all_options = {**dict.fromkeys(names), **values}
        first, turns = turns_of(values.get("prompt"), all_options["prompt_at"] or [])
        film = {name: all_options[name] for name in (*options.FILM, "width", "height")}
        encoding = {name: all_options[name] for name in options.ENCODING}
        request_fields = fields(film, encoding, self._sample()) | {"prompt_at": turns}
        polish = {name: all_options[name] for name in options.FINISH}
        extras = replace(self.extras, polish=polish, loras=all_options["lora"] or [])
        request, (plan,), networks = prepared(Request.of(prompt=first or "", **request_fields), extras)
        path = self._path(row, plan, values.get("name", ""), drawn and values["seed"] is None)
        if drawn:
            self.seeds.put(row, plan.seed)
        return Film(row, request, plan, networks, path, drawn)

    def _sample(self) -> Path | None:
        """Return a file name with the suffix that all films share."""
        return None if self.suffix else self.template.path(dict.fromkeys(self.template.fields, "x") | {"model": "x"})

    def _path(self, row: Row, plan: Plan, name: str, new: bool) -> Path:
        from flickbook.formats import FORMS

        number = f"{row.number:0{len(str(self.count))}d}"
        # A seed drawn in a dry run is not the seed of the later run.
        seed = "{seed}" if new and self.dry_run else str(plan.seed)
        named = {
            "number": number,
            "slug": output_path.slug(plan.prompt),
            "seed": seed,
            "model": plan.model,
            "name": name,
        }
        path = self.template.path(named)
        return path.with_name(path.name + FORMS[plan.container].suffixes[0]) if self.suffix else path


@dataclass
class _Work:
    """One run of a batch: films that existed, were made, or failed, by row number."""

    films: Sequence[Film]
    seeds: Seeds
    sheet: Path
    overwrite: bool
    as_json: bool
    extras: Extras
    kept: dict[int, Film] = field(default_factory=dict)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, list[int]] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse early what could not be written later, and find existing films."""
        from flickbook.engine.batch import saved_plan
        from flickbook.media.inspect import read_comment
        from flickbook.media.write import check_target

        rows: dict[str, str] = {str(self.sheet).casefold(): "the sheet", str(self.seeds.path).casefold(): "the journal"}
        for film in self.films:
            # Some file systems treat a and A as the same name.
            other = rows.setdefault(str(film.path).casefold(), f"row {film.row.number}")
            if other != f"row {film.row.number}":
                reason = f"is the output of {other} and of row {film.row.number}"
                raise OutputError(film.path, reason, "add {number} or {name} to --output")
        for film in self.films:
            with at(f"row {film.row.number}"):
                there = saved_plan(film, self.overwrite)
                if there is None:
                    self._check(film)
                    continue
                self.kept[film.row.number] = film
                if film.drawn:
                    self.seeds.put(film.row, there.seed)
        check_target(self.sheet, overwrite=True)
        if self.sheet.exists() and not self.overwrite and (read_comment(self.sheet) or "") != _MARK:
            raise OutputError(
                self.sheet, "exists and is not a batch sheet", "choose another --output, or add --overwrite"
            )

    def _check(self, film: Film) -> None:
        output_path.check_plan(film.plan, [film.path], [], self.overwrite)

    def preview(self) -> None:
        """Print what would be made, and what exists."""
        from flickbook.engine.films import estimate_plan

        rest = [film for film in self.films if film.row.number not in self.kept]
        shapes = {film.plan.shape(): film.plan for film in reversed(rest)}
        foreseen = {s: estimate_plan(plan, self.extras.model_dir, self.extras.precision) for s, plan in shapes.items()}
        if self.as_json:
            rows = [self._planned(film) for film in self.films]
            console.document({"films": rows, "estimates": [each.to_dict() for each in foreseen.values()]})
            return
        for film in self.films:
            planned, plan = self._planned(film), film.plan
            frames = "1 frame" if plan.num_frames == 1 else f"{plan.num_frames} frames"
            what = f"{plan.width}x{plan.height}, {frames}, {plan.num_inference_steps} steps"
            seed = "random" if planned["seed"] is None else planned["seed"]
            state = "exists" if planned["kept"] else "to make"
            print(f"{film.row.number:<5}  {state:<7}  {planned['path']}  {plan.model}, {what}, seed {seed}")
        print(f"{len(self.kept)} of {len(self.films)} films exist, {len(rest)} to make")
        for shape, found in list(foreseen.items())[:_LINES]:
            count = sum(film.plan.shape() == shape for film in rest)
            first = next(film.row.number for film in rest if film.plan.shape() == shape)
            print(f"{count} like row {first}: {found.line()}, per film")

    def _planned(self, film: Film) -> dict[str, Any]:
        kept = film.row.number in self.kept
        known = kept or not film.drawn or self.seeds.get(film.row) is not None
        plan = film.plan.model_dump(mode="json")
        seed = self.seeds.of(film.row, film.plan.seed) if known else None
        return {
            "row": film.row.number,
            "kept": kept,
            "path": str(film.path),
            "seed": seed,
            "plan": plan | {"seed": seed},
        }

    def run(self) -> None:
        """Make the missing films, and the sheet. Complete films are kept, whatever happens."""
        rest = [film for film in self.films if film.row.number not in self.kept]
        self._begin(rest)
        output_path.announce([film.path for film in rest])
        self.seeds.save()
        try:
            sheet = self._sheet()
            for film in self.kept.values():
                self._keep(film, sheet)
            self._make(rest, sheet)
            self._draw(sheet)
        except (KeyboardInterrupt, Cancelled):
            there = len(self.kept) + len(self.reports.keys() - self.kept.keys())
            done = f"{there} of {len(self.films)} films are in {self.sheet.parent}"
            raise Cancelled(f"{done}; run the same command again to continue") from None

    def _begin(self, rest: Sequence[Film]) -> None:
        """Ensure that the models' files are present, and announce the work.

        Raises as `require`, and RequestError for a precision.
        """
        from flickbook.engine.films import estimate_plan

        home = self.extras.model_dir
        if self.kept:
            console.note(f"{len(self.kept)} of {len(self.films)} films exist already and are kept")
        plans = {film.plan.model: film.plan for film in reversed(rest)}
        for name in plans:
            require_model(name, home, self.extras.yes)
        for plan in plans.values():
            console.note(f"{plan.model}: {estimate_plan(plan, home, self.extras.precision).line()}, per film")

    def _sheet(self) -> Sheet:
        from flickbook.engine.batch import Sheet
        from flickbook.engine.polish import finished

        plan = self.films[0].plan
        most = max(finished(film.plan).num_frames for film in self.films)
        return Sheet(len(self.films), most, plan.height / plan.width)

    def _keep(self, film: Film, sheet: Sheet) -> None:
        """Report a film that exists."""
        from flickbook.engine.batch import Failure
        from flickbook.media.embedded import carried
        from flickbook.media.read import read_any

        number = film.row.number
        try:
            recipe, run = carried(film.path)
            frames = read_any(film.path)[0] if number <= sheet.count else None
        except FlickbookError as error:
            self._fail(film, Failure(error.code, f"{error}, or delete the file and run again"), sheet)
            return
        self._tell(film, recipe, run)
        if frames is not None:
            sheet.add(number, _label(film, run), frames)

    def _make(self, rest: Sequence[Film], sheet: Sheet) -> None:
        """Make films, and save each as soon as it is done."""
        from flickbook.engine.batch import Failure, made

        line: list[ProgressLine] = []
        count = len(rest)
        run_options = {"model_dir": self.extras.model_dir, "precision": self.extras.precision, "check": self._check}
        results = made(rest, **run_options, on_step=lambda step: line[-1](step))  # type: ignore[arg-type]
        left = count
        while True:
            # One progress bar per film, because printing goes through the bar while it is drawn.
            with ProgressLine(count, done=count - left) as progress:
                line[:] = [progress]
                found = next(results, None)
                if found is None:
                    return
                film, result = found
                left -= 1
                result = self._save(film, result, progress)
            if isinstance(result, Failure):
                self._fail(film, result, sheet)
                continue
            assert result.recipe is not None and result.run is not None
            for text in dict.fromkeys(result.run.notes):
                self.notes.setdefault(text, []).append(film.row.number)
            self._tell(film, result.recipe, result.run)
            sheet.add(film.row.number, _label(film, result.run), result.frames)

    def _save(self, film: Film, result: Clip | Failure, progress: ProgressLine) -> Clip | Failure:
        from flickbook.engine.batch import Failure
        from flickbook.spec import Step

        if isinstance(result, Failure):
            return result
        began = time.perf_counter()
        try:
            result.save(film.path, overwrite=self.overwrite)
        except FlickbookError as error:
            return Failure.of(error)
        progress(Step("write", 1, 1, time.perf_counter() - began))
        return result

    def _fail(self, film: Film, failure: Failure, sheet: Sheet) -> None:
        number = film.row.number
        console.note(f"row {number} failed: {failure.message}")
        report = {"row": number, "path": str(film.path), "code": failure.code, "message": failure.message}
        self.failed[number] = report
        sheet.add(number, f"{number} · failed: {failure.message}", None)

    def _tell(self, film: Film, recipe: Recipe, run: Run | None) -> None:
        """Print a film's path, or collect its JSON."""
        number = film.row.number
        self.reports[number] = {}
        if not self.as_json:
            print(film.path, flush=True)
            return
        self.reports[number] = {"row": number, "kept": number in self.kept, **console.made(film.path, recipe, run)}

    def _draw(self, sheet: Sheet) -> None:
        """Write the sheet."""
        import numpy as np

        from flickbook.media.write import write_png

        write_png(self.sheet, np.asarray(sheet.image()), _MARK, overwrite=True)
        count = len(self.films)
        shown = "" if sheet.count == count else f" the first {sheet.count} of"
        console.note(f"{self.sheet} shows{shown} {count} film{'s' if count > 1 else ''}")

    def tell(self) -> int:
        """Print what was made and what failed; return the exit code."""
        for text, numbers in list(self.notes.items())[:_LINES]:
            console.note(f"{_rows(numbers)}: {text}")
        if len(self.notes) > _LINES:
            console.note(f"{len(self.notes) - _LINES} more notes are in the sidecars of the films")
        if self.failed:
            what = f"{len(self.failed)} of {len(self.films)} films failed: {_rows(sorted(self.failed))}"
            console.note(f"{what}; run the same command again to retry them")
        if self.as_json:
            films = [self.reports[number] for number in sorted(self.reports)]
            failed = [self.failed[number] for number in sorted(self.failed)]
            console.document({"films": films, "failed": failed, "sheet": str(self.sheet)})
        return 1 if self.failed else 0


def _rows(numbers: Sequence[int]) -> str:
    """Format row numbers: "rows 1, 4"."""
    some = ", ".join(map(str, numbers[:_LINES]))
    more = f" and {len(numbers) - _LINES} more" if len(numbers) > _LINES else ""
    return f"row{'s' if len(numbers) > 1 else ''} {some}{more}"


def _label(film: Film, run: Run | None) -> str:
    from flickbook.engine.batch import worst

    return " · ".join(
        part
        for part in (
            str(film.row.number),
            worst(run.scores if run else {}, [film.plan.prompt, *(text for _, text in film.plan.prompt_at)]),
            film.plan.prompt,
        )
        if part
    )
