"""Runs at the start of each Python that ``otelflow run -- COMMAND`` starts, the workers of its servers included.

Python imports the first ``sitecustomize`` on its path. Whatever happens here, the program starts, and the
``sitecustomize`` that it would have found otherwise runs as well.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _run_the_next() -> None:
    here = Path(__file__).resolve().parent
    others = [folder for folder in sys.path if Path(folder or ".").resolve() != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


def _start() -> None:
    try:
        from otelflow._instrument.bootstrap import start_here
    except ImportError:  # a Python without otelflow, that the command starts in its turn
        return
    start_here()


_run_the_next()
_start()
