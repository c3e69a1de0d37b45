"""Fixtures for the instrumentation tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shopping
from no_code_programs import SCRIPT, SCRIPT_TARGETS, TARGETS


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    """Write the package ``shop`` and yield its module ``stock``."""
    shopping.write(tmp_path)
    with shopping.importable(tmp_path):
        yield shopping.load("stock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a package, a script and a configuration file."""
    shopping.write(tmp_path)
    (tmp_path / "nightly.py").write_text(SCRIPT)
    (tmp_path / "otelflow.toml").write_text(TARGETS + SCRIPT_TARGETS)
    return tmp_path
