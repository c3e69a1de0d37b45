"""A script or module, run as Python runs it as a program, with its functions instrumented as they are defined.

An import hook sees a module when it has run to its end. A program does its work before that: so after each ``def`` and
``class`` at the top level of its code, a call is put that looks at what was defined. Nothing else is different: the
lines of its code, its names, and what it finds in :mod:`sys` are as Python would have made them.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import io
import pkgutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from otelflow.errors import ConfigError

__all__ = ["Program", "module", "script"]

Defined = Callable[[types.ModuleType, str], None]
"""Is told of a name that the program has defined."""

_HOOK = "__otelflow_defined__"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Program:
    """Code that is ready to be run as ``__main__``."""

    def __init__(self, name: str, file: str, code: types.CodeType, spec: Any) -> None:
        self.name = name
        """What its functions are also found under: the module's name, or that of the script without its suffix."""
        self.file, self._code, self._spec = file, code, spec

    def run(self, words: list[str], defined: Defined) -> None:
        """Run it to its end, in this process, with ``words`` as ``sys.argv``. What it raises comes through."""
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=self.file, __spec__=self._spec, __cached__=None, __builtins__=builtins)
        if self._spec is None:
            main.__loader__ = importlib.machinery.SourceFileLoader("__main__", self.file)
        else:
            main.__loader__, main.__package__ = self._spec.loader, self._spec.parent
            main.__dict__["__cached__"] = self._spec.cached
        sys.modules["__main__"] = main
        sys.argv[:] = words
        setattr(builtins, _HOOK, lambda name: defined(main, name))
        exec(self._code, main.__dict__)


class _Watching(ast.NodeTransformer):
    """Puts the call after each definition at the top level, also within ``if``, ``try``, ``with`` and loops there."""

    def generic_visit(self, node: ast.AST) -> Any:
        return [node, _call(node)] if isinstance(node, _DEFINITIONS) else super().generic_visit(node)


def _call(definition: Any) -> ast.stmt:
    call = ast.Call(ast.Name(_HOOK, ast.Load()), [ast.Constant(definition.name)], [])
    made = ast.copy_location(ast.Expr(call), definition)
    made.end_lineno, made.end_col_offset = definition.lineno, definition.col_offset
    return ast.fix_missing_locations(made)


def _compiled(source: Any, file: str) -> types.CodeType:
    tree: Any = compile(source, file, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    return compile(_Watching().visit(tree), file, "exec", dont_inherit=True)


def script(path: str) -> Program:
    """The script of a file, of a folder or an archive with a ``__main__``. ``sys.path`` begins with its folder, as with
    ``python FILE``.

    Raises ConfigError for a file that cannot be read, SyntaxError as Python does.
    """
    file = str(Path(path).resolve())
    if pkgutil.get_importer(file) is not None:
        _put_first(file)
        return _of_module("__main__")
    try:
        with io.open_code(file) as opened:
            source = opened.read()
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be run: {error.strerror}. Name a Python file, or use -m MODULE.") from None
    _put_first(str(Path(file).parent))
    absolute = str(Path(path).absolute())  # as __file__ of __main__ is since Python 3.9
    return Program(Path(path).stem, absolute, _compiled(source, absolute), None)


def module(name: str) -> Program:
    """The program of a module, or of a package's ``__main__``. ``sys.path`` begins with the current folder, as with
    ``python -m NAME``.

    Raises ConfigError where there is none.
    """
    _put_first(str(Path.cwd()))
    return _of_module(name)


def _put_first(folder: str) -> None:
    if getattr(sys.flags, "safe_path", False):  # PYTHONSAFEPATH: nothing of the kind
        return
    if sys.path:
        sys.path[0] = folder
    else:
        sys.path.append(folder)


def _of_module(name: str) -> Program:
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _spec(name)
    code = None if spec is None else getattr(spec.loader, "get_code", lambda _: None)(name)
    if spec is None or code is None:
        raise ConfigError(f"There is no module {name!r} to run. Name one as for python -m, from {str(Path.cwd())!r}.")
    source = getattr(spec.loader, "get_source", lambda _: None)(name)
    file = code.co_filename
    return Program(name, spec.origin or file, code if source is None else _compiled(source, file), spec)


def _spec(name: str) -> Any:
    if name == "__main__":  # of a folder or archive: importlib would say that it is imported already
        return importlib.machinery.PathFinder.find_spec(name, sys.path[:1])
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise
