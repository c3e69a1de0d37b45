"""Call a flow from the command line: convert its words to arguments, by the function's annotations."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
import typing
from pathlib import Path
from typing import Any

from otelflow._runs.flow_and_task import Flow, Task
from otelflow.cli._program_command import ProgramUsageError

__all__ = ["call_flow", "parse_arguments"]

_INJECTED = {"this_flow", "this_task", "flow_data", "task_data"}
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def call_flow(name: str, words: list[str]) -> int:
    """Run ``MODULE:FLOW`` with ``words``. A plain function is run as a flow.

    Returns the exit status: 1 if the flow failed without raising.
    """
    function = _import_callable(name)
    args, kwargs = parse_arguments(function, words, name)
    if isinstance(function, type) and issubclass(function, Flow):
        run: Any = function(*args, **kwargs)
    else:
        run = function(*args, **kwargs) if _is_flow_or_task(function) else Flow(function, *args, **kwargs)
    if isinstance(run, Flow):
        run.execute()
        return 1 if run.status == "failed" else 0
    return 0


def _is_flow_or_task(function: Any) -> bool:
    """Return whether ``function`` is a flow or task already, and can be called without a new flow."""
    return hasattr(function, "__wrapped__") and type(function).__module__.partition(".")[0] == "otelflow"


def _import_callable(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ProgramUsageError(
            f"There is no module {error.name!r}. Use a module that can be imported from here."
        ) from None
    for part in path.split("."):
        if not hasattr(value, part):
            raise ProgramUsageError(f"{module_name!r} has no {path!r}.")
        value = getattr(value, part)
    if not callable(value):
        raise ProgramUsageError(
            f"{name} is of type {type(value).__name__} and cannot be run. Use a flow or a function."
        )
    return value


def parse_arguments(function: Any, words: list[str], name: str = "it") -> tuple[list[Any], dict[str, Any]]:
    """Convert the words to positional and keyword arguments.

    Words without dashes are positional. ``--name value`` and ``--name=value`` are keywords; ``--name`` and
    ``--no-name`` set booleans. The annotation gives the type (int, float, bool, Path, ...). Without an annotation,
    a Python literal is evaluated, and other text stays text.

    Raises ProgramUsageError for words that do not fit, with the parameters.
    """
    target = function.main if isinstance(function, type) and issubclass(function, (Flow, Task)) else function
    signature = inspect.signature(target)
    parameters = {key: item for key, item in signature.parameters.items() if key not in _INJECTED and key != "self"}
    try:
        types_by_name = typing.get_type_hints(inspect.unwrap(target))
    except Exception:  # an annotation may name something undefined
        types_by_name = {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            args.append(_positional_value(word, len(args), parameters, types_by_name, name))
            continue
        key, has_value, text = word[2:].replace("-", "_", word.partition("=")[0].count("-") - 2).partition("=")
        kind = types_by_name.get(key)
        if not has_value and key.startswith("no_") and key not in parameters and types_by_name.get(key[3:]) is bool:
            kwargs[key[3:]] = False
            continue
        if key not in parameters and not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            raise ProgramUsageError(f"{name} has no option --{key}. Its parameters: {_usage(parameters)}.")
        if not has_value and kind is bool:
            kwargs[key] = True
            continue
        if not has_value:
            if not remaining:
                raise ProgramUsageError(f"--{key} of {name} needs a value.")
            text = remaining.pop(0)
        kwargs[key] = _convert_value(text, kind, f"--{key}")
    try:
        signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        raise ProgramUsageError(f"{name}: {error}. Its parameters: {_usage(parameters)}.") from None
    return args, kwargs


def _positional_value(word: str, position: int, parameters: dict[str, Any], hints: dict[str, Any], name: str) -> Any:
    positional_parameters = [
        item for item in parameters.values() if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    ]
    var_positional = [item for item in parameters.values() if item.kind is item.VAR_POSITIONAL]
    if position >= len(positional_parameters) and not var_positional:
        raise ProgramUsageError(f"{name} has no parameter for {word!r}. Its parameters: {_usage(parameters)}.")
    parameter = positional_parameters[position] if position < len(positional_parameters) else var_positional[0]
    return _convert_value(word, hints.get(parameter.name), parameter.name)


def _usage(parameters: dict[str, inspect.Parameter]) -> str:
    return ", ".join(str(item) for item in parameters.values()) or "none"


def _convert_value(text: str, kind: Any, name: str) -> Any:
    kinds = [item for item in _alternatives(kind) if item is not type(None)]
    if type(None) in _alternatives(kind) and text.lower() == "none":
        return None
    for candidate in kinds:
        try:
            return _convert(text, candidate)
        except (ValueError, TypeError, SyntaxError):
            continue
    names = " or ".join(getattr(item, "__name__", str(item)) for item in kinds)
    raise ProgramUsageError(f"{name} must be of type {names}; got {text!r}.")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _convert(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in (*_YES, *_NO):
            raise ValueError(text)
        return text.lower() in _YES
    if kind in (str, int, float, Path):
        return kind(text)
    if kind in (None, Any):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    value = ast.literal_eval(text) if typing.get_origin(kind) or kind in (list, dict, tuple, set) else kind(text)
    expected = typing.get_origin(kind) or kind
    if isinstance(expected, type) and not isinstance(value, expected):
        raise ValueError(text)
    return value
