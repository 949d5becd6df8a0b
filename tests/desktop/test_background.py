"""Work in another thread, told in this one."""

from __future__ import annotations

import queue
import threading

from tests.desktop.conftest import until

from flickbook.desktop.background import Background, Callbacks, pumped


def test_work_is_done_in_order_elsewhere_and_told_here() -> None:
    callbacks: Callbacks = queue.SimpleQueue()
    worker = Background("a test", callbacks)
    found: list[object] = []
    worker.do(threading.current_thread, found.append)
    worker.do(lambda: 1 / 0, found.append, lambda error: found.append(type(error)))
    worker.do(lambda: 1 / 0, found.append)
    worker.do(lambda: 3, found.append)
    until(lambda: len(found) == 3, lambda: pumped(callbacks))
    assert isinstance(found[0], threading.Thread) and found[0] is not threading.current_thread()
    assert found[1:] == [ZeroDivisionError, 3]
