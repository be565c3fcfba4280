"""How many programs JAX compiles."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"
_counters: list[list[int]] = []
_heard: list[bool] = []


@contextmanager
def counted_compilations() -> Generator[Callable[[], int]]:
    """Count the programs that are compiled inside; called, what is yielded tells their number."""
    if not _heard:  # JAX forgets no listener
        jax.monitoring.register_event_duration_secs_listener(_count)
        _heard.append(True)
    counter = [0]
    _counters.append(counter)
    try:
        yield lambda: counter[0]
    finally:
        _counters[:] = [other for other in _counters if other is not counter]


def _count(event: str, duration_secs: float, **kwargs: Any) -> None:
    del duration_secs, kwargs
    if event == _EVENT:
        for counter in _counters:
            counter[0] += 1
