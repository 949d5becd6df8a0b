"""Runs one call of a diffusers pipeline step by step, in a thread that waits after each step."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch

from flickbook.engine.memory.fallback import ran_out
from flickbook.engine.pipelines.overlap import Overlap
from flickbook.engine.pipelines.preview import clean_latents, left_latents
from flickbook.engine.pipelines.recorder import Recorder
from flickbook.engine.pipelines.registry import parameters
from flickbook.engine.pipelines.state import CallState, Stage


class _Stopped(BaseException):
    """Ends a cancelled call. Not an Exception, so that no pipeline catches it."""


class Call:
    """`pipe(**said)` as a generator of stages. With `start` the steps done before are not computed again. `overlap`
    holds the latents that the call continues from."""

    def __init__(
        self,
        pipe: Any,
        arguments: dict[str, Any],
        seed: int,
        start: CallState | None = None,
        overlap: Overlap | None = None,
    ) -> None:
        self.pipe, self.arguments, self.seed, self._overlap = pipe, arguments, seed, overlap
        self.latents: Any = None  # those after the last step
        self._recorder = Recorder(pipe, arguments["generator"], start)
        self.result: Any = None  # the pipeline's return value, once all stages were yielded
        self._events: queue.Queue[Stage | BaseException | None] = queue.Queue()
        self._go, self._stop = threading.Semaphore(0), False
        self._seen: tuple[Any, ...] | None = None
        self.tiled = False  # whether decoding ran out of memory and switched to tiles

    def stages(self, previews: bool = False) -> Generator[Stage, None, None]:
        """Yield a stage after each step. Raises the exceptions of the pipeline.

        Closing the generator stops the call at its next step.
        """
        thread = threading.Thread(target=self._run, args=(previews,), name="pipeline", daemon=True)
        thread.start()
        try:
            while True:
                event = self._events.get()
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                yield event
                self._go.release()
        finally:
            self._stop = True
            self._go.release()
            thread.join()

    def _run(self, previews: bool) -> None:
        try:
            # Some pipelines draw part of their noise from the global generator.
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(self.seed)
                with self._watched(previews) as arguments, self._recorder.watched(), self.patient():
                    self.result = self.pipe(**arguments)
            self._events.put(None)
        except _Stopped:
            pass
        except BaseException as error:  # raised again in the thread that consumes the stages
            self._events.put(error)

    def _after_step(self) -> None:
        if not self._recorder.done():
            return
        count = self._recorder.count
        total = int(getattr(self.pipe, "num_timesteps", 0) or len(self.pipe.scheduler.timesteps))
        # A pipeline that works window by window reports the number of steps of one window, hence max().
        noisy = None if self._seen is None else left_latents(self._seen[-1])
        self._events.put(Stage(count, max(total, count), clean=self._clean(), noisy=noisy, call=self._state(total)))
        self._go.acquire()
        if self._stop:
            raise _Stopped

    def _state(self, total: int) -> CallState | str:
        """What the rest of the call depends on, or the reason why it cannot be saved."""
        if self._recorder.count > total:
            return "the later windows of a film that is made window by window depend on the earlier ones"
        try:
            return self._recorder.state()
        except ValueError as error:
            return f"{type(self.pipe.scheduler).__name__}: {error}"

    def _clean(self) -> Callable[[], Any] | None:
        if self._seen is None:
            return None
        seen = self._seen
        return lambda: clean_latents(self.pipe.scheduler, *seen)

    @contextmanager
    def _watched(self, previews: bool) -> Iterator[dict[str, Any]]:
        """The call's arguments with a step callback, if the pipeline has one; otherwise the scheduler reports steps."""
        known, arguments = parameters(self.pipe), dict(self.arguments)
        reports = True
        if "callback_on_step_end" in known:
            arguments["callback_on_step_end"] = self._callback
            arguments["callback_on_step_end_tensor_inputs"] = ["latents"]
        elif "callback" in known:
            arguments |= {"callback": lambda *_: self._after_step(), "callback_steps": 1}
        else:
            reports = hasattr(self.pipe, "reporting")  # a modular pipeline
        scheduler, kind = self.pipe.scheduler, type(self.pipe.scheduler)
        second = getattr(self.pipe, "audio_scheduler", None)
        watched = [scheduler, *([second] if type(second) is kind else [])]

        @wraps(kind.step)  # pipelines inspect the signature of `step`
        def step(this: Any, model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
            index = getattr(this, "step_index", None)

            own = this is scheduler  # not a copy, as some pipelines make for audio or for each frame
            overlap = self._overlap if own else None
            if overlap is not None:
                overlap.begin(sample)

            def compute() -> Any:
                answer = kind.step(this, model_output, timestep, sample, *args, **kwargs)
                return answer if overlap is None else overlap.held(this, answer)

            replayed = self._recorder.replaying
            answer = self._recorder.step(this, compute, sample)
            if own:
                self.latents = left_latents(answer)
                if previews and not replayed:
                    self._seen = (model_output, timestep, sample, index, answer)
                if not reports:
                    self._after_step()
            return answer

        for each in watched:
            each.__class__ = type(kind.__name__, (kind,), {"step": step})
        loop = self.pipe.reporting(self._after_step) if hasattr(self.pipe, "reporting") else nullcontext()
        try:
            with loop:
                yield arguments
        finally:
            for each in watched:
                each.__class__ = kind

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Decode in tiles if memory runs out, so that the denoised latents are not lost."""
        autoencoder: Any = getattr(self.pipe, "vae", None)
        if not hasattr(autoencoder, "enable_tiling"):
            yield
            return
        decode = autoencoder.decode

        def patient(*args: Any, **kwargs: Any) -> Any:
            try:
                return decode(*args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if self.tiled or getattr(autoencoder, "use_tiling", False) or not ran_out(error):
                    raise
            self.tiled = True
            autoencoder.enable_tiling()
            gc.collect()
            return decode(*args, **kwargs)

        autoencoder.decode = patient
        try:
            yield
        finally:
            del autoencoder.decode

    def _callback(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._after_step()
        return {}
