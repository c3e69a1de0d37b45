"""The test kit: what ran, as trees to ask and to assert on. The fixture ``capflow`` is one :class:`Capture` a test.

with capture() as captured:
    nightly("data/").execute()
assert captured.flow("nightly").status == "completed"
"""

from otelflow.testing._capture import Capture, capture
from otelflow.testing._captured_run import CapturedRun, Failure

__all__ = ["Capture", "CapturedRun", "Failure", "capture"]
