"""A script or module, run as Python runs it as a program, with its functions instrumented as they are defined.

An import hook sees a module when it has run to its end. A program does its work before that: so here each name that
its code binds is looked at when it is bound.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import types
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from otelflow.errors import ConfigError

__all__ = ["Program", "module", "script"]

Defined = Callable[[types.ModuleType, str], None]
"""Is told of a name that the program bound."""


class Program:
    """Code that is ready to be run as ``__main__``."""

    def __init__(self, name: str, file: str, code: types.CodeType, spec: Any) -> None:
        self.name = name
        """What its functions are also found under: the module's name, or that of the script without its suffix."""
        self._file, self._code, self._spec = file, code, spec

    def run(self, arguments: list[str], defined: Defined) -> None:
        """Run it to its end, in this process. What it raises comes through, SystemExit too."""
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=self._file, __spec__=self._spec, __cached__=None)
        if self._spec is not None:
            main.__package__ = self._spec.parent
            main.__loader__ = self._spec.loader
        main.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = main
        sys.argv[:] = [self._file, *arguments]
        exec(self._code, main.__dict__, _Watched(main, defined))


class _Watched(MutableMapping[str, Any]):
    """The names of ``__main__`` as its code writes them at the top level. They are kept in the module itself."""

    def __init__(self, main: types.ModuleType, defined: Defined) -> None:
        self._main, self._names, self._defined = main, main.__dict__, defined

    def __getitem__(self, name: str) -> Any:
        return self._names[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._names[name] = value
        if callable(value):
            self._defined(self._main, name)

    def __delitem__(self, name: str) -> None:
        del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def script(path: str) -> Program:
    """The script of a file. ``sys.path`` begins with its folder, as with ``python FILE``.

    Raises ConfigError for a file that cannot be read, SyntaxError as Python does.
    """
    try:
        with io.open_code(str(Path(path).resolve())) as file:
            source = file.read()
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be run: {error.strerror}. Name a Python file, or use -m MODULE.") from None
    sys.path[0] = str(Path(path).resolve().parent)
    return Program(Path(path).stem, path, compile(source, path, "exec", dont_inherit=True), None)


def module(name: str) -> Program:
    """The program of a module, or of a package's ``__main__``. ``sys.path`` begins with the current folder, as with
    ``python -m NAME``.

    Raises ConfigError where there is none.
    """
    sys.path[0] = str(Path.cwd())
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _spec(name)
    code = None if spec is None else getattr(spec.loader, "get_code", lambda _: None)(name)
    if spec is None or code is None:
        raise ConfigError(f"There is no module {name!r} to run. Name one as for python -m, from {str(Path.cwd())!r}.")
    return Program(name, spec.origin or name, code, spec)


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise
