"""To be told when a module has been imported: by a finder of our own, which can be taken away again.

wrapt's import hooks name one module each, fire once, and stay: they know no patterns, no ``importlib.reload``, and no
way back.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import wrapt

from otelflow._runtime.log_once import log_once

__all__ = ["ImportHook"]


class ImportHook(MetaPathFinder):
    """Calls ``imported(module)`` when a module that ``wants(name)`` has run, each time that it does.

    Neither may raise into the import: what they raise is logged. The module is found and loaded by whoever does so
    without this hook, and looks the same afterwards.
    """

    def __init__(self, wants: Callable[[str], bool], imported: Callable[[ModuleType], None]) -> None:
        self._wants, self._imported = wants, imported
        self._busy = threading.local()

    def install(self) -> None:
        """Watch imports from now on."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Watch no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        busy: set[str] = self._busy.__dict__.setdefault("names", set())
        if fullname in busy or not self._is_wanted(fullname):
            return None
        busy.add(fullname)  # another hook may ask all finders again, this one included
        try:
            spec = self._found(fullname, path, target)
        finally:
            busy.discard(fullname)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = _Loader(spec.loader, self._tell)
            spec.loader = loader
        return spec

    def _found(self, *wanted: Any) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find_spec is None else find_spec(*wanted)
            if spec is not None:
                return spec
        return None

    def _is_wanted(self, name: str) -> bool:
        try:
            return self._wants(name)
        except Exception:
            log_once("import hook", "Looking at the import of %s failed; it goes on.", name, exc_info=True)
            return False

    def _tell(self, name: str, module: Any) -> None:
        try:
            if issubclass(type(module), ModuleType):  # some put another object into their place
                self._imported(module)
        except Exception:
            log_once(f"imported {name}", "Instrumenting %s failed; its import goes on.", name, exc_info=True)


class _Loader(wrapt.ObjectProxy):  # type: ignore[type-arg,unused-ignore]  # generic in its stubs only
    """The loader that was found, which tells when it has run a module. It stands aside first: the module has the same
    ``__loader__`` as without it."""

    def __init__(self, loader: Any, tell: Callable[[str, Any], None]) -> None:
        super().__init__(loader)
        self._self_tell = tell

    def exec_module(self, module: ModuleType) -> None:
        loader = self.__wrapped__
        spec: Any = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = loader
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = loader
        name = module.__name__
        loader.exec_module(module)
        self._self_tell(name, sys.modules.get(name, module))
