"""DeepCache 0.1.1 from PyPI (Ma et al. 2023, arXiv 2312.00858), unchanged, around the stock pipeline.

It asks for `cache_interval` N: of N steps the first runs the whole network, the others its outermost layers with what
the first left behind. It knows nothing of the temporal layers and lets those of the layers it skips run; other branches
than 0 fail where a level has fewer than three layers.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench.rivals import stock
from bench.subject import Side, Subject, at, name_of

PACKAGE, PLACE = "DeepCache==0.1.1", Path("build/bench/deepcache")
NOTE = "the temporal layers of the levels it skips still run, since it does not know them"


def helper(pipeline: Any) -> Any:
    """Its helper, installed into the bench's own folder the first time. Raises ImportError, CalledProcessError."""
    if not (PLACE / "DeepCache").is_dir():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, PACKAGE, "--target", str(PLACE)], check=True, capture_output=True)
    if str(PLACE) not in sys.path:
        sys.path.append(str(PLACE))
    from DeepCache import DeepCacheSDHelper

    return DeepCacheSDHelper(pipe=pipeline)


def film(pipeline: Any, subject: Subject, interval: int, steps: int | None = None) -> Any:
    """A film with it on."""
    cache = helper(pipeline)
    cache.set_params(cache_interval=interval, cache_branch_id=0)
    cache.enable()
    try:
        return stock.film(pipeline, subject, steps)
    finally:
        cache.disable()


def side(subject: Subject, pipeline: Any, interval: int, tuned: str = "") -> Side:
    """With N = interval; where a step is measured, one period of N steps is."""
    helper(pipeline)
    steps = None if subject.whole else interval
    call = at(subject.threads, partial(film, pipeline, subject, interval, steps))
    kind = name_of(pipeline.unet.dtype)
    name = f"DeepCache N={interval}{tuned}, {kind}"
    return Side(name, call, kind, lossy=True, per=steps or 1, notes=[NOTE])
