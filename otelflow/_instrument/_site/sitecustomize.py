"""Start otelflow in each Python process of ``otelflow run -- COMMAND``, including the workers of servers.

Python imports the first ``sitecustomize`` on its path. This one also runs the next ``sitecustomize`` on the path.
The program starts even if this module fails.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _run_next_sitecustomize() -> None:
    here = Path(__file__).resolve().parent
    other_paths = [folder for folder in sys.path if Path(folder or ".").resolve() != here]
    spec = PathFinder.find_spec("sitecustomize", other_paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


def _start_otelflow() -> None:
    try:
        from otelflow._instrument.bootstrap import start_from_environment
    except ImportError:  # the command may start another Python, which has no otelflow
        return
    start_from_environment()


_run_next_sitecustomize()
_start_otelflow()
