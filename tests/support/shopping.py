"""Code that does not use otelflow, written into a folder for a test to instrument."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

STOCK = '''
import functools, json
from dataclasses import dataclass

def reserve(sku, count=1, *more, note=None, **rest):
    """Take from the shelf."""
    return [sku, count]

def fail(order):
    raise ValueError("nothing left")

async def fetch(sku):
    return sku

def each(count):
    sent = yield "begin"
    for number in range(count):
        yield number, sent
    return "end"

async def stream(count):
    for number in range(count):
        yield number

@functools.lru_cache
def doubled(number):
    return number * 2

def _private():
    return "private"

dumps = json.dumps

class Base:
    def place(self, order): return ["placed", type(self).__name__, order]
    def over(self): return "base"
    @classmethod
    def make(cls, name): return cls.__name__, name
    @staticmethod
    def plain(name): return name
    @property
    def total(self): return 5
    @total.setter
    def total(self, value): self.kept = value
    @functools.cached_property
    def costly(self): return object()
    @functools.lru_cache
    def halved(self, number): return number / 2
    async def fetch(self): return self
    def __call__(self, what): return what
    def __len__(self): return 3
    class Inner:
        def deep(self): return "deep"

class Sub(Base):
    def over(self): return "sub, " + super().over()

class Slotted:
    __slots__ = ("data",)

class Names(dict):
    pass

@dataclass
class Order:
    id: int = 1

order = Base()
number = 5
'''

USE = """
from shop.stock import reserve
from shop.stock import reserve as take, Base
from shop import stock

handlers = [reserve]

def both():
    return reserve("a"), take("b", 2), stock.reserve("c")
"""


def write(folder: Path, **modules: str) -> None:
    """Write the package ``shop`` into ``folder``, with additional modules."""
    package = folder / "shop"
    package.mkdir(exist_ok=True)
    for name, source in {"__init__": "", "stock": STOCK, "use": USE, **modules}.items():
        (package / f"{name}.py").write_text(textwrap.dedent(source))


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Make ``shop`` importable from ``folder``. Afterwards remove it, and assert that no instrumentation is left."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
        assert not any(type(finder).__module__.startswith("otelflow") for finder in sys.meta_path), "a finder is left"
    finally:
        sys.path.remove(str(folder))
        forget()


def forget() -> None:
    """Remove all modules of ``shop`` from ``sys.modules``."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def load(name: str) -> ModuleType:
    """Import a module of the package."""
    return importlib.import_module(f"shop.{name}")
