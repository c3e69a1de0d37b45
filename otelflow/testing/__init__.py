"""Test kit: capture what a test runs, as trees to query and to assert on.

The fixture ``capflow`` gives each test its own :class:`Capture`. Without the fixture::

    with capture() as captured:
        nightly("data/").execute()
    assert captured.flow("nightly").status == "completed"
"""

from otelflow.testing._capture import Capture, capture
from otelflow.testing._captured_run import CapturedRun, Failure

__all__ = ["Capture", "CapturedRun", "Failure", "capture"]
