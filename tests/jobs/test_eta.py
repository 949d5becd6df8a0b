"""How long is left, learned from what was done."""

from __future__ import annotations

import pytest
from tests.jobs.conftest import Moving, Small

from flickbook.jobs import queue
from flickbook.jobs.backend import Backend
from flickbook.jobs.eta import PHASES, Pace, Past, expected, history, parallel_films, past, work
from flickbook.jobs.workers.runner import Runner
from flickbook.spec import Step
from flickbook.store.base import Job

SECONDS = {"load": 1.0, "encode": 0.5, "denoise": 10.0, "decode": 2.0, "polish": 0.0, "write": 0.5}


def test_an_equal_plan_is_expected_to_take_as_long(small: Small) -> None:
    plan = small().plan
    assert expected(plan, []) is None
    assert expected(plan, [Past(plan, SECONDS)]) == SECONDS
    assert expected(plan, [Past(plan, SECONDS)], warm=True) == SECONDS | {"load": 0.0}


def test_twice_the_steps_take_twice_the_denoising(small: Small) -> None:
    plan, longer = small().plan, small(num_inference_steps=6).plan
    found = expected(longer, [Past(plan, SECONDS)])
    assert found == SECONDS | {"denoise": 20.0}
    assert work(longer)["decode"] == work(plan)["decode"]


def test_estimates_of_exact_and_balanced_runs_are_kept_apart(small: Small) -> None:
    exact = small().plan
    quick = exact.model_copy(update={"speed": "balanced"})
    longer = small(num_inference_steps=6).plan
    found = [Past(quick, SECONDS | {"denoise": 5.0}), Past(exact, SECONDS)]
    assert expected(longer, found) == SECONDS | {"denoise": 20.0}
    assert expected(quick, found[:1]) == SECONDS | {"denoise": 5.0}
    assert expected(quick, found[1:]) == SECONDS, "no longer than that"


def test_one_slow_run_does_not_change_the_estimate(small: Small) -> None:
    plan = small().plan
    slow = {name: 100 * seconds for name, seconds in SECONDS.items()}
    assert expected(plan, [Past(plan, each) for each in (SECONDS, slow, SECONDS)]) == SECONDS


def test_the_fraction_grows_and_the_remaining_time_shrinks(small: Small) -> None:
    plan = small(num_inference_steps=10).plan
    pace = Pace(plan, [Past(plan, SECONDS)])
    steps = [Step("load", 1, 1, 1.0), Step("encode", 1, 1, 0.5)]
    steps += [Step("denoise", index, 10, float(index)) for index in range(1, 11)]
    steps += [Step("decode", index, 4, index / 2) for index in range(1, 5)]
    estimates = [pace.after(step) for step in steps]
    shares, left = [share for share, _ in estimates], [rest for _, rest in estimates]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] < 1
    assert all(
        one is not None and other is not None and one >= other for one, other in zip(left, left[1:], strict=False)
    )
    assert left[1] == pytest.approx(12.5) and left[-1] == pytest.approx(0.5)


def test_the_estimate_follows_a_slower_run(small: Small) -> None:
    plan = small(num_inference_steps=10).plan
    pace = Pace(plan, [Past(plan, SECONDS)])
    for index in range(1, 6):
        _, left = pace.after(Step("denoise", index, 10, 4.0 * index))
    assert left == pytest.approx(20.0 + 2.5)


def test_the_fraction_never_falls_when_decoding_is_slow(small: Small) -> None:
    plan = small(num_inference_steps=10).plan
    pace = Pace(plan, [Past(plan, SECONDS)])
    steps = [Step("denoise", index, 10, float(index)) for index in range(1, 11)]
    steps += [Step("decode", index, 8, 20.0 * index) for index in range(0, 9)]
    shares = [pace.after(step)[0] for step in steps]
    assert shares == sorted(shares)


def test_a_first_run_has_a_fraction_but_no_remaining_time(small: Small) -> None:
    share, left = Pace(small().plan).after(Step("denoise", 1, 2, 1.0))
    assert left is None and 0.3 < share < 0.7


def test_a_first_run_is_estimated_from_its_own_steps(small: Small) -> None:
    pace = Pace(small(num_inference_steps=10).plan)
    remaining = [pace.after(Step("denoise", index, 10, 2.0 * index))[1] for index in range(1, 6)]
    assert remaining[:2] == [None, None]
    # Ten seconds of denoising, and what comes after it: an eighth of that, by the usual shares.
    assert remaining[4] == pytest.approx(10.0 + 20.0 * 0.12 / 0.8)


def test_a_completed_film_is_used_to_estimate_the_next(backend: Backend, small: Small) -> None:
    def run(job: Job) -> Job:
        (kept,) = backend.ask(backend.queue.submit([job]))
        claimed = backend.ask(backend.store.claim("w", 30, id=kept.id))
        assert claimed is not None
        (done,) = Runner(backend).run([claimed])
        return done

    done = run(small(2))
    found = past(done)
    assert found is not None and set(found.seconds) <= set(PHASES)
    assert sum(found.seconds.values()) == pytest.approx(done.seconds, rel=0.05)
    assert len(backend.ask(history(backend.queue))) == 1


def test_sequences_and_films_are_estimated_separately(small: Small, moving: Moving) -> None:
    film, sequence = small().plan, moving().plan
    slow = {name: 100 * seconds for name, seconds in SECONDS.items()}
    found = [Past(sequence, slow), Past(film, SECONDS)]
    assert expected(film, found) == SECONDS and expected(sequence, found) == slow
    assert expected(sequence, found[1:]) is None and expected(film, found[:1]) is None
    # Only a share of each picture is made anew over the one before.
    partly = moving(feedback=0.5).plan
    assert work(partly)["denoise"] == work(sequence)["denoise"] / 2


@pytest.mark.slow
def test_a_completed_sequence_is_used_to_estimate_the_next(backend: Backend, moving: Moving) -> None:
    for seed, pauses in ((1, False), (2, True)):
        (kept,) = backend.ask(backend.queue.submit([moving(seed)]))
        runner = Runner(backend, look=0.01)
        while (job := backend.ask(backend.store.claim("w", 30, id=kept.id))) is not None:
            leave = runner.leave if pauses else lambda: None
            runner.run([job], on_step=lambda step, leave=leave: leave() if step.phase == "denoise" else None)  # type: ignore[misc]
            runner, pauses = Runner(backend), False
    # The one that was stopped tells nothing of how long a whole one takes.
    (found,) = backend.ask(history(backend.queue))
    assert found.plan.task == "sequence" and found.plan.seed == 1


def test_a_resumed_job_is_not_used_for_estimates(small: Small) -> None:
    job = small()
    assert past(job) is None
    assert past(job.model_copy(update=queue.failed(job, "x"))) is None


def test_films_of_a_batch_are_used_to_estimate_batches(small: Small) -> None:
    plan = small().plan
    found = [Past(plan, SECONDS | {"denoise": 40.0}, films=4), Past(plan, SECONDS)]
    assert expected(plan, found, films=1) == SECONDS
    assert expected(plan, found, films=4) == SECONDS | {"denoise": 40.0}
    assert expected(plan, found[:1], films=1) == SECONDS | {"denoise": 40.0}, "for want of another"
    assert (parallel_films(plan, found[:1]), parallel_films(plan, found), parallel_films(plan, [])) == (4.0, 2.5, 1.0)
