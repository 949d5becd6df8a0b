"""Kill what can be killed, fill the disk, and look at what is left: `python -m tests.crash [--trials 1000]`.

Everything happens in a temporary directory; nothing is left running. The random instants come from --seed, which is
printed: the same seed chooses the same phases, jobs and shares of them. Only a run of everything writes its report.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path

from tests.crash import (
    access,
    cancel,
    claims,
    cluster_kill,
    disk,
    idempotency,
    inspections,
    report,
    server_kill,
    shown,
    tune_kill,
    worker_kill,
)
from tests.crash.report import Section, spread
from tests.crash.ward import ROOT, Ward

Made = Callable[[argparse.Namespace, Path, Ward, Ward], Section]


def main() -> int:
    """Run what was asked for; 1 if anything went wrong."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing is left then either
    place = Path(tempfile.mkdtemp(prefix="flickbook-crash-", dir=options.place))
    print(f"seed {options.seed}, in {place}", flush=True)
    sections: list[Section] = []
    try:
        with Ward(place / "ward") as ward, Ward(place / "serving", "server") as serving:
            for name in options.only or PARTS:
                began = time.monotonic()
                try:
                    section = PARTS[name](options, place / name, ward, serving)
                except Exception as error:
                    section = Section(name, 0, 0.0, [], [f"it could not be tried: {type(error).__name__}: {error}"])
                    traceback.print_exc()
                section.seconds = time.monotonic() - began
                sections.append(section)
                _say(name, section)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if not options.only:
        day = date.today().isoformat()
        print(report.write(report.text(sections, day, options.seed, _load()), day, options.report))
    return int(any(section.faults for section in sections))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="kills of workers, and of servers")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs that processes rush for")
    parser.add_argument("--processes", type=int, default=16, help="how many do")
    parser.add_argument("--stops", type=int, default=1000, help="holders that are stopped; workers are a tenth")
    parser.add_argument("--cancels", type=int, default=100, help="films that are cancelled, and as many waiting jobs")
    parser.add_argument("--tunes", type=int, default=200, help="kills of trainings")
    parser.add_argument("--losses", type=int, default=70, help="losses of parts of a cluster")
    parser.add_argument("--real", type=int, help="kills of workers under the real lease of 30 s; a twentieth")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("--place", help="where the temporary directory is made")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reports", help="where the report goes")
    parser.add_argument("only", nargs="*", metavar="PART", help=f"only these, and no report: {', '.join(PARTS)}")
    return parser.parse_args()


def _load() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"


def _say(name: str, section: Section) -> None:
    print(f"{name}: {section.tried} tried, {len(section.faults)} wrong, {section.seconds:.0f} s", flush=True)
    for line in (*section.lines, *section.faults):
        print(f"    {line}", flush=True)


def _workers(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    real = options.trials // 20 if options.real is None else options.real
    fast = worker_kill.run(ward, place, options.trials - real, options.seed)
    slow = worker_kill.run(ward, place, real, options.seed, lease=30.0, beat=5.0)
    found = fast.found
    found.add(slow.found)
    where = ", ".join(f"{phase} {count}" for phase, count in (fast.kills + slow.kills).most_common())
    late = [took - 3.0 for took in fast.requeued] + [took - 30.0 for took in slow.requeued]
    if late and max(late) > 5.0:
        found.faults.append(f"an orphan waited {max(late):.1f} s longer than its lease")
    return Section(
        "kill -9 of workers",
        sum((fast.kills + slow.kills).values()),
        0.0,
        [
            f"- {fast.jobs + slow.jobs} films; {found.completed} completed, each once, each with the frames and the "
            "bytes of its uninterrupted twin",
            f"- killed in: {where}",
            f"- {found.went_on} of the films went on from a checkpoint; {found.given_up} jobs were killed three times "
            "without getting further and failed as worker_lost",
            f"- free again by the lease alone (3 s): {spread(fast.requeued)}; (30 s, {real} kills): "
            f"{spread(slow.requeued)}; at once where a supervisor saw it: {fast.buried + slow.buried}",
            f"- {found.checkpoints} completed jobs kept a checkpoint that nobody needs",
        ],
        found.faults,
    )


def _tunes(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = tune_kill.run(ward, place, options.tunes, options.seed)
    same = "the LoRA, films and held-out losses of the uninterrupted one, to the byte"
    said = f"- {found.trainings} trainings ended, each with {same}"
    went = f"- {found.resumed} starts found a checkpoint, {found.kills - found.resumed} began anew"
    return Section("kill -9 of trainings", found.kills, 0.0, [said, went], found.faults)


def _cluster(options: argparse.Namespace, place: Path, _: Ward, __: Ward) -> Section:
    found = cluster_kill.run(place, options.losses, options.seed)
    where = ", ".join(f"{fault} {count}" for fault, count in found.losses.most_common())
    said = f"- lost: {where}; {found.films} films with the frames of their twin; {found.again} took another attempt"
    return Section("losses in a cluster", sum(found.losses.values()), 0.0, [said], found.faults)


def _queue(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = server_kill.queue(ward, place, options.trials // 2, options.seed)
    said = f"- {found.acknowledged} jobs were acknowledged before the kills, in bursts of 1 to 4; all are there"
    starts = f"- the next one was ready after: {spread(found.starts)}"
    return Section("kill -9 of submitting processes", found.trials, 0.0, [said, starts], found.faults)


def _service(options: argparse.Namespace, place: Path, _: Ward, serving: Ward) -> Section:
    found = server_kill.http_service(serving, place, options.trials - options.trials // 2, options.seed)
    said = f"- {found.acknowledged} answers of /api/v1/jobs and /v1/videos before the kills; each job is there, once"
    again = (
        f"- {found.unanswered} requests had no answer ({found.kept_unanswered} of their jobs were kept); asked again"
    )
    starts = f"- a whole `flickbook serve` answered again after: {spread(found.real_starts)}"
    lines = [said, f"{again} under the same Idempotency-Key, each key has one job", starts]
    return Section("kill -9 of the service", found.trials, 0.0, lines, found.faults)


def _claims(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = claims.rush(ward, place, options.jobs, options.processes)
    rate = options.jobs / max(found.seconds, 1e-9)
    line = f"- {options.processes} processes; {rate:.0f} jobs a second were claimed and settled, two commits each"
    return Section("many processes, one queue", options.jobs, 0.0, [line], found.faults)


def _stops(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = claims.stopped_holders(ward, place / "holders", options.stops, options.processes, options.seed)
    films = claims.stopped_workers(ward, place / "workers", max(1, options.stops // 10), options.seed)
    lines = [
        f"- {found.refused} of {found.tried} processes that were stopped past their lease were refused when they "
        "renewed and when they settled",
        f"- {films.refused} of {films.tried} workers that were stopped while they made a film left nothing that counts "
        f"({films.passed} more were through by then, or had the database locked)",
    ]
    faults = found.faults + films.faults
    faults += ["not everyone was refused"] * ((found.refused, films.refused) != (found.tried, films.tried))
    return Section("processes stopped and continued", found.tried + films.tried, 0.0, lines, faults)


def _disk(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = disk.faulty(ward, place / "faults")
    calls = disk.every_call(ward, place / "calls")
    tried = sum(map(len, found.ended.values()))
    lines = [f"- skipped: {kind}, because {why}" for kind, why in found.skipped.items()]
    for kind, ended in found.ended.items():
        lines += [f"- {kind}, {phase}: {how}" for phase, how in ended.items()]
    lines.append(f"- the store failed at each of its calls, before and after it had done its work: {calls.calls} times")
    return Section("a disk that fails", tried + calls.calls, 0.0, lines, found.faults + calls.faults)


def _cancel(options: argparse.Namespace, place: Path, ward: Ward, _: Ward) -> Section:
    found = cancel.run(ward, place, options.cancels, options.seed)
    late = report.p95(found.over_a_step)
    lines = [
        f"- a running film: {spread(found.running)}; a step took {spread(found.steps)}",
        f"- beyond one step: p95 {late:.3f} s, the goal of 0.250 s is {'met' if late <= 0.25 else 'missed'}",
        f"- a waiting job: {spread(found.queued)}; a commit took {spread(found.commits)}",
    ]
    return Section("cancelling", len(found.running), 0.0, lines, found.faults)


def _idempotency(options: argparse.Namespace, place: Path, _: Ward, serving: Ward) -> Section:
    found = idempotency.run(serving, place, options.seed)
    lines = [
        f"- {len(idempotency.ROUTES)} routes, two server processes on one store, {found.kills} kills during a request",
        "- equal requests at once and after a kill act once; another body under a used key is 422, "
        "and has no effect; owners and routes are independent",
    ]
    return Section("Idempotency-Key on every route", found.tried, 0.0, lines, found.faults)


def _keys(options: argparse.Namespace, place: Path, _: Ward, serving: Ward) -> Section:
    found = access.keys(serving, place, max(10, options.trials // 5), options.seed)
    ways = ", ".join(f"{way} {count}" for way, count in found.damage.most_common())
    lines = [
        f"- {found.keys} keys in {found.trials} stores; {found.lost} were lost to the damage, the repair named each "
        "of them where the store had a record of its keys",
        f"- the service of each repaired store refused a request without a key; {found.unreadable} stores held "
        "nothing that could be repaired",
        f"- damage: {ways}",
    ]
    return Section("keys after repair", found.trials, 0.0, lines, found.faults)


def _passwords(options: argparse.Namespace, place: Path, _: Ward, serving: Ward) -> Section:
    found = access.passwords(serving, place, options.trials, options.seed)
    lines = [
        f"- {found.sent} wrong passwords were sent from the address that the owner had logged in from, under changing "
        f"forwarded addresses; {found.verified} were verified, the others refused unseen",
        f"- {found.right} times the right password was sent to a locked account, and answered as the wrong one was",
    ]
    return Section("password guessing", found.sent, 0.0, lines, found.faults)


def _shown(options: argparse.Namespace, place: Path, _: Ward, __: Ward) -> Section:
    found = shown.run(place, options.seed)
    lines = [
        f"- {found.films} films through OpenAI's client; the service and its workers were killed twice, "
        f"{found.killed_running} films were running then; "
        f"{found.equal} equal their uninterrupted twins, frames and bytes",
        f"- {found.went_on} of them went on from a checkpoint",
    ]
    return Section("ten films, everything killed twice", found.films, 0.0, lines, found.faults)


def _inspections(options: argparse.Namespace, place: Path, _: Ward, __: Ward) -> Section:
    found = inspections.run(place)
    counts = ", ".join(f"{found.statuses.count(status)} with {status}" for status in sorted({*found.statuses}))
    lines = [
        f"- eight at once: a PNG of 1 x 50,000,000 pixels in 97 kB, then eight different files; answered: {counts}",
        f"- other requests meanwhile: {spread(found.latencies)}; the goal of {inspections.LATENCY:.0f} s is "
        f"{'met' if max(found.latencies) < inspections.LATENCY else 'missed'}",
        f"- the server's process took at most {found.server_mib} MiB, of {inspections.MEMORY} MiB; with the processes "
        f"that read the files {found.together_mib} MiB",
    ]
    return Section("heavy inspections", found.tried, 0.0, lines, found.faults)


PARTS: dict[str, Made] = {
    "workers": _workers,
    "tunes": _tunes,
    "cluster": _cluster,
    "queue": _queue,
    "service": _service,
    "claims": _claims,
    "stops": _stops,
    "disk": _disk,
    "keys": _keys,
    "passwords": _passwords,
    "cancel": _cancel,
    "idempotency": _idempotency,
    "inspections": _inspections,
    "shown": _shown,
}

if __name__ == "__main__":
    sys.exit(main())
