"""Import hook: call a function after a module was imported. It is a finder that can be removed again.

wrapt's import hooks are not enough: each names one module, fires once, and stays. They support neither patterns nor
``importlib.reload`` nor removal.
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
    """Finder that calls ``on_import(module)`` each time that a module with ``is_target(name)`` has run.

    Exceptions of both functions are logged and do not reach the import. The usual finder and loader find and load the
    module. It looks the same as without this hook.
    """

    def __init__(self, is_target: Callable[[str], bool], on_import: Callable[[ModuleType], None]) -> None:
        self._is_target, self._on_import = is_target, on_import
        self._thread_state = threading.local()

    def install(self) -> None:
        """Start to watch imports."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Stop watching imports."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        names_in_progress: set[str] = self._thread_state.__dict__.setdefault("names", set())
        if fullname in names_in_progress or not self._matches(fullname):
            return None
        names_in_progress.add(fullname)  # another hook may call all finders again, including this one
        try:
            spec = self._find_other_spec(fullname, path, target)
        finally:
            names_in_progress.discard(fullname)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = _Loader(spec.loader, self._notify)
            spec.loader = loader
        return spec

    def _find_other_spec(self, *args: Any) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find_spec = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find_spec is None else find_spec(*args)
            if spec is not None:
                return spec
        return None

    def _matches(self, name: str) -> bool:
        try:
            return self._is_target(name)
        except Exception:
            log_once(
                "import hook", "otelflow could not check the import of %s; the import continues.", name, exc_info=True
            )
            return False

    def _notify(self, name: str, module: Any) -> None:
        try:
            if issubclass(type(module), ModuleType):  # a module may replace itself by another object
                self._on_import(module)
        except Exception:
            log_once(f"imported {name}", "otelflow could not instrument %s; its import continues.", name, exc_info=True)


class _Loader(wrapt.ObjectProxy):  # type: ignore[type-arg,unused-ignore]  # generic in its stubs only
    """Proxy of a loader that notifies the hook after it ran a module.

    It first restores the original loader in the module: ``__loader__`` is the same as without the hook.
    """

    def __init__(self, loader: Any, notify: Callable[[str, Any], None]) -> None:
        super().__init__(loader)
        self._self_notify = notify

    def exec_module(self, module: ModuleType) -> None:
        loader = self.__wrapped__
        spec: Any = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = loader
        if getattr(module, "__loader__", None) is self:
            module.__loader__ = loader
        name = module.__name__
        loader.exec_module(module)
        self._self_notify(name, sys.modules.get(name, module))
