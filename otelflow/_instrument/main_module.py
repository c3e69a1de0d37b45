"""Run a script or module as a program, as Python does, and instrument its functions when they are defined.

An import hook sees a module after it has run. A program does its work before that. So this module inserts a call of a
hook after each ``def`` and ``class`` at the top level of the code. Nothing else changes: line numbers, names and the
contents of :mod:`sys` are the same as with ``python FILE``.
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

__all__ = ["Program", "load_module", "load_script"]

OnDefinition = Callable[[types.ModuleType, str], None]
"""Called with the module and the name, after the program defined the name."""

_HOOK = "__otelflow_defined__"
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Program:
    """Compiled code, to run as ``__main__``."""

    def __init__(self, name: str, file: str, code: types.CodeType, spec: Any) -> None:
        self.name = name
        """Second name of the module for targets: the module's name, or the script's file name without suffix."""
        self.file, self._code, self._spec = file, code, spec

    def run(self, argv: list[str], on_definition: OnDefinition) -> None:
        """Run the program in this process, with ``argv`` as ``sys.argv``. Its exceptions propagate."""
        main = types.ModuleType("__main__")
        main.__dict__.update(__file__=self.file, __spec__=self._spec, __cached__=None, __builtins__=builtins)
        if self._spec is None:
            main.__loader__ = importlib.machinery.SourceFileLoader("__main__", self.file)
        else:
            main.__loader__, main.__package__ = self._spec.loader, self._spec.parent
            main.__dict__["__cached__"] = self._spec.cached
        sys.modules["__main__"] = main
        sys.argv[:] = argv
        setattr(builtins, _HOOK, lambda name: on_definition(main, name))
        exec(self._code, main.__dict__)


class _HookInserter(ast.NodeTransformer):
    """Insert the hook call after each top-level definition, also within ``if``, ``try``, ``with`` and loops."""

    def generic_visit(self, node: ast.AST) -> Any:
        return [node, _hook_call(node)] if isinstance(node, _DEFINITIONS) else super().generic_visit(node)


def _hook_call(definition: Any) -> ast.stmt:
    call = ast.Call(ast.Name(_HOOK, ast.Load()), [ast.Constant(definition.name)], [])
    statement = ast.copy_location(ast.Expr(call), definition)
    statement.end_lineno, statement.end_col_offset = definition.lineno, definition.col_offset
    return ast.fix_missing_locations(statement)


def _compile_with_hooks(source: Any, file: str) -> types.CodeType:
    tree: Any = compile(source, file, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    return compile(_HookInserter().visit(tree), file, "exec", dont_inherit=True)


def load_script(path: str) -> Program:
    """Load a script: a file, or a folder or archive with a ``__main__``.

    ``sys.path`` then begins with its folder, as with ``python FILE``. Raises ConfigError for a file that cannot be
    read, and SyntaxError as Python does.
    """
    file = str(Path(path).resolve())
    if pkgutil.get_importer(file) is not None:
        _set_first_path_entry(file)
        return _program_of_module("__main__")
    try:
        with io.open_code(file) as stream:
            source = stream.read()
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}. Name a Python file, or use -m MODULE.") from None
    _set_first_path_entry(str(Path(file).parent))
    absolute = str(Path(path).absolute())  # as __file__ of __main__ is since Python 3.9
    return Program(Path(path).stem, absolute, _compile_with_hooks(source, absolute), None)


def load_module(name: str) -> Program:
    """Load a module, or the ``__main__`` of a package.

    ``sys.path`` then begins with the current folder, as with ``python -m NAME``. Raises ConfigError if there is no
    such module.
    """
    _set_first_path_entry(str(Path.cwd()))
    return _program_of_module(name)


def _set_first_path_entry(folder: str) -> None:
    if getattr(sys.flags, "safe_path", False):  # with PYTHONSAFEPATH, Python adds no folder either
        return
    if sys.path:
        sys.path[0] = folder
    else:
        sys.path.append(folder)


def _program_of_module(name: str) -> Program:
    spec = _find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = _find_spec(name)
    code = None if spec is None else getattr(spec.loader, "get_code", lambda _: None)(name)
    if spec is None or code is None:
        raise ConfigError(
            f"There is no module {name!r} to run. Use a name that python -m accepts in {str(Path.cwd())!r}."
        )
    source = getattr(spec.loader, "get_source", lambda _: None)(name)
    file = code.co_filename
    return Program(name, spec.origin or file, code if source is None else _compile_with_hooks(source, file), spec)


def _find_spec(name: str) -> Any:
    if name == "__main__":  # for a folder or archive: importlib.util would find the __main__ that is already imported
        return importlib.machinery.PathFinder.find_spec(name, sys.path[:1])
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise
