"""Memory that is reused, by the pages that the kernel has to make."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import resource
import threading

import pytest
import torch
from tests.patience import PATIENCE
from torch import Tensor

from flickbook.catalogue import find
from flickbook.diffusion import heap
from flickbook.diffusion.sampler import SamplerState, sample
from flickbook.diffusion.text_to_video import TextToVideo

MIB = 2**20
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this machine has another allocator")


def pages(size: int = 50 * MIB) -> int:
    """The pages of 4 KiB that it takes to fill one block after the other of `size` and half as much again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for each in (size, size * 3 // 2) * 2:
        torch.empty(each, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def warm() -> None:
    """Until every block has its gap."""
    for _ in range(6):
        pages()


def returned() -> bool:
    """Whether blocks that are larger than any gap are made anew each time."""
    pages(160 * MIB)
    return pages(160 * MIB) > 200  # far more where the kernel makes no large pages


def held() -> int:
    """MiB that the process holds by itself."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("RssAnon"))


@pytest.mark.slow
def test_what_was_freed_serves_what_is_computed_next() -> None:
    assert returned()
    # What earlier tests left behind would be freed, or filled, in between.
    gc.collect()
    heap.give_back()
    before = held()
    with heap.reused():
        warm()
        assert pages() < 100
        assert held() > before + 60
    assert held() < before + 20, "given back"
    assert returned()


def test_the_last_to_leave_ends_it() -> None:
    inside, ended = threading.Event(), threading.Event()

    def other() -> None:
        with heap.reused():
            inside.set()
            ended.wait(PATIENCE)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(PATIENCE)
    with heap.reused():
        warm()
    assert pages() < 100, "the other one is still inside"
    ended.set()
    thread.join()
    assert returned()


def test_what_breaks_off_ends_it_too() -> None:
    with pytest.raises(MemoryError), heap.reused():
        raise MemoryError
    assert returned()


@pytest.mark.slow
def test_films_are_denoised_and_decoded_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    networks, made = TextToVideo.load(find("builtin").path()), []

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        warm()
        made.append(pages())
        return x

    def decode(latents: Tensor) -> Tensor:
        return network(latents.new_zeros(len(latents), 3, 8, 8), torch.tensor(0))

    latents = torch.zeros(1, 8, 2, 8, 8)
    state = SamplerState.begin(latents, networks.schedule.timesteps(25)[-1:])
    list(sample(network, state, networks.schedule, "ddim"))
    monkeypatch.setattr(networks.autoencoder, "decode", decode)
    list(networks.decode(latents[0]))
    assert len(made) == 2 and max(made) < 100
    assert returned()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_from_one_that_makes_a_film_makes_none() -> None:
    with heap.reused():
        child = multiprocessing.get_context("fork").Process(target=_ends_it)
        child.start()
        child.join(PATIENCE)
    assert child.exitcode == 0


def _ends_it() -> None:
    assert heap._inside == 0
    with heap.reused():
        pass
    assert heap._inside == 0


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    with heap.reused():
        heap.give_back()
