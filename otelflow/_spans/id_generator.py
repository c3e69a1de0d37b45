"""Trace and span ids that the program's own use of :mod:`random` cannot repeat."""

from __future__ import annotations

import os
import random

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["ProcessIdGenerator"]


class ProcessIdGenerator(IdGenerator):
    """Draws from a generator of its own, seeded by the operating system, anew in each forked child.

    The SDK's default draws from the module :mod:`random`: a program that calls ``random.seed(1)``, as tests and
    experiments do, gives every run the same trace ids there.
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
        """That all bits are random, for the flag of W3C Trace Context level 2."""
        return True
