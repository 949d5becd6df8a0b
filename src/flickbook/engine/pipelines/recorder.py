"""Records the state of a pipeline's call after each step, and brings a new call to that state.

A resumed call runs its pipeline from the beginning, so prompts, images and time steps are prepared again from the
inputs. For the steps that are done, no network or scheduler computes: networks return zeros of the recorded shape, and
a scheduler's `step` returns what it returned in the last of those steps. Then schedulers, random generators and caches
get their saved state, and the loop continues with exactly the numbers of the interrupted call. So this module needs no
knowledge of what a pipeline derives from its number of time steps, packs, casts or keeps in local variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from flickbook.engine.pipelines.state import CallState, answer, named

#: The components of pipelines that are called in each step.
NETWORKS = ("transformer", "transformer_2", "unet")


class Recorder:
    """Records the steps of one call of `pipe` with its `generator`, or resumes the call after `start`."""

    def __init__(self, pipe: Any, generator: torch.Generator, start: CallState | None = None) -> None:
        self._networks = [each for name in NETWORKS if (each := getattr(pipe, name, None)) is not None]
        self._generator, self._start = generator, start
        self.count = 0  # steps done
        self._schedulers: list[Any] = []  # in order of their first step; some pipelines copy theirs
        self._answers: list[Any] = []  # what `step` returned since the last completed step
        self._outputs: list[Any] = []  # shapes of the networks' outputs since then
        self._device = torch.device("cpu")
        self._saved: dict[str, Any] = {} if start is None else start.values(self._device)

    @property
    def replaying(self) -> bool:
        """Whether the next step was done before the interruption."""
        return self._start is not None and self.count < self._start.index

    def step(self, scheduler: Any, compute: Callable[[], Any], sample: Tensor) -> Any:
        """The result of `scheduler.step` for `sample`: computed, or the saved one."""
        if not any(each is scheduler for each in self._schedulers):
            self._schedulers.append(scheduler)
        if self.replaying:
            self._device = sample.device
            names, values = _at(self._saved["answers"], len(self._answers))
            returned = answer(tuple(names), tuple(_copied(value, sample.device) for value in values))
        else:
            returned = compute()
        self._answers.append(named(returned))
        return returned

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the pipeline's networks in the block, and replace them by zeros in the steps that are done."""
        with ExitStack() as stack:
            for network in self._networks:
                stack.enter_context(self._watched(network))
            yield

    @contextmanager
    def _watched(self, network: Any) -> Iterator[None]:
        compute, had = network.forward, vars(network).get("forward")

        @wraps(compute)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.replaying:
                names, shapes = _at(self._saved["outputs"], len(self._outputs))
                returned = answer(tuple(names), tuple(_zeros(shape, (*args, *kwargs.values())) for shape in shapes))
            else:
                returned = compute(*args, **kwargs)
            names, values = named(returned)
            self._outputs.append((names, tuple(_shape(value) for value in values)))
            return returned

        network.forward = forward
        try:
            yield
        finally:
            # Offloading hooks replace `forward` as well.
            if vars(network).get("forward") is forward:
                del network.forward
                if had is not None:
                    network.forward = had

    def done(self) -> bool:
        """Count a step. Returns False if it was done before the interruption."""
        replayed = self.replaying
        self.count += 1
        if not replayed:
            return True
        if not self.replaying:
            self._restore()
        self._answers, self._outputs = [], []
        return False

    def state(self) -> CallState:
        """The state after the step just completed. Raises ValueError if a scheduler's state is not plain data."""
        changing = {
            "answers": self._answers,
            "outputs": self._outputs,
            "schedulers": [_attributes(scheduler) for scheduler in self._schedulers],
            "random": [self._generator.get_state(), torch.get_rng_state()],
        }
        self._answers, self._outputs = [], []
        return CallState.of(self.count, changing, {"caches": [_cached(cache) for cache in self._caches()]})

    def _restore(self) -> None:
        """Set the saved state, after the last replayed step."""
        assert self._start is not None
        saved = self._start.values(self._device)
        for scheduler, attributes in zip(self._schedulers, saved["schedulers"], strict=True):
            vars(scheduler).update(attributes)
        state, shared = saved["random"]
        self._generator.set_state(state)
        torch.set_rng_state(shared)
        for cache, states in zip(self._caches(), saved["caches"], strict=True):
            for name, attributes in states.items():
                cache._state_cache[name] = cache._state_cls()
                vars(cache._state_cache[name]).update(attributes)

    def _caches(self) -> list[Any]:
        """The caches that diffusers' hooks keep between steps, in the order of the networks' layers."""
        found: dict[int, Any] = {}
        for module in (module for network in self._networks for module in network.modules()):
            for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values():
                found |= {id(each): each for each in vars(hook).values() if hasattr(each, "_state_cache")}
        return list(found.values())


def _cached(cache: Any) -> dict[str, dict[str, Any]]:
    """The state of a cache for each of its contexts, without the value that each step computes before reading it."""
    return {
        name: {key: value for key, value in vars(state).items() if key != "head_block_output"}
        for name, state in cache._state_cache.items()
    }


def _attributes(target: Any) -> dict[str, Any]:
    """The attributes of a scheduler except its configuration."""
    return {name: value for name, value in vars(target).items() if name != "_internal_dict"}


def _at(calls: list[Any], place: int) -> Any:
    """The record of a call; a replayed step may have more calls than the saved one, so the last record repeats."""
    return calls[min(place, len(calls) - 1)]


def _copied(value: Any, device: torch.device) -> Any:
    return value.to(device).clone() if isinstance(value, Tensor) else value


def _shape(value: Any) -> Any:
    return [list(value.shape), str(value.dtype).removeprefix("torch.")] if isinstance(value, Tensor) else None


def _zeros(shape: Any, arguments: tuple[Any, ...]) -> Tensor | None:
    """Zeros of a recorded shape on the device of the network's inputs."""
    if shape is None:
        return None
    device = next(each.device for each in arguments if isinstance(each, Tensor))
    return torch.zeros(shape[0], dtype=getattr(torch, shape[1]), device=device)
