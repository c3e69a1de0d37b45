"""Generate trace and span ids that do not depend on the program's use of :mod:`random`."""

from __future__ import annotations

import os
import random

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["ProcessIdGenerator"]


class ProcessIdGenerator(IdGenerator):
    """An id generator with its own random generator, seeded by the operating system and again in each forked child.

    The SDK's default draws from the module :mod:`random`. If a program calls ``random.seed(1)``, as tests and
    experiments do, every run of it gets the same trace ids.
    """

    def __init__(self) -> None:
        self._seed()
        after_fork_in_child(self._seed)

    def _seed(self) -> None:
        self._bits = random.Random(os.urandom(32)).getrandbits

    def generate_span_id(self) -> int:
        return self._bits(64) or self.generate_span_id()  # all zeros is no id

    def generate_trace_id(self) -> int:
        return self._bits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Return True: all bits are random. For the ``random`` flag of W3C Trace Context level 2."""
        return True
