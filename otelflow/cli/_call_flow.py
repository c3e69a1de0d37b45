"""A flow called from the command line: its words become arguments, as the function's annotations say."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
import typing
from pathlib import Path
from typing import Any

from otelflow._runs.flow_and_task import Flow, Task
from otelflow.cli._program_command import Mistake

__all__ = ["arguments", "call"]

_INJECTED = {"this_flow", "this_task", "flow_data", "task_data"}
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def call(name: str, words: list[str]) -> int:
    """Run ``MODULE:FLOW`` with ``words``. A function that is no flow is run as one. The exit status: 1 where the flow
    failed without raising."""
    function = _found(name)
    args, kwargs = arguments(function, words, name)
    if isinstance(function, type) and issubclass(function, Flow):
        made: Any = function(*args, **kwargs)
    else:
        made = function(*args, **kwargs) if _makes_flows(function) else Flow(function, *args, **kwargs)
    if isinstance(made, Flow):
        made.execute()
        return 1 if made.status == "failed" else 0
    return 0


def _makes_flows(function: Any) -> bool:
    """Whether it is a flow or task already: a call of it does what it says."""
    return hasattr(function, "__wrapped__") and type(function).__module__.partition(".")[0] == "otelflow"


def _found(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise Mistake(f"There is no module {error.name!r}. Name one that can be imported from here.") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise Mistake(f"{module_name!r} has no {path!r}.")
        found = getattr(found, part)
    if not callable(found):
        raise Mistake(f"{name} is {type(found).__name__}, and cannot be run. Name a flow or a function.")
    return found


def arguments(function: Any, words: list[str], name: str = "it") -> tuple[list[Any], dict[str, Any]]:
    """The words as arguments: plain ones by position, ``--name value``, ``--name=value``, and ``--name`` or
    ``--no-name`` for truth values. Text becomes what the annotation says (int, float, bool, Path, ...); without one,
    what Python would read it as, else text.

    Raises Mistake for words that do not fit, with what does.
    """
    target = function.main if isinstance(function, type) and issubclass(function, (Flow, Task)) else function
    signature = inspect.signature(target)
    known = {key: one for key, one in signature.parameters.items() if key not in _INJECTED and key != "self"}
    try:
        types_by_name = typing.get_type_hints(inspect.unwrap(target))
    except Exception:  # annotations that name what is not there
        types_by_name = {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--") or word == "--":
            args.append(_positional(word, len(args), known, types_by_name, name))
            continue
        key, has_value, text = word[2:].replace("-", "_", word.partition("=")[0].count("-") - 2).partition("=")
        kind = types_by_name.get(key)
        if not has_value and key.startswith("no_") and key not in known and types_by_name.get(key[3:]) is bool:
            kwargs[key[3:]] = False
            continue
        if key not in known and not any(one.kind is one.VAR_KEYWORD for one in known.values()):
            raise Mistake(f"{name} takes no --{key}. It takes: {_usage(known)}.")
        if not has_value and kind is bool:
            kwargs[key] = True
            continue
        if not has_value:
            if not waiting:
                raise Mistake(f"--{key} of {name} needs a value.")
            text = waiting.pop(0)
        kwargs[key] = _value(text, kind, f"--{key}")
    try:
        signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        raise Mistake(f"{name}: {error}. It takes: {_usage(known)}.") from None
    return args, kwargs


def _positional(word: str, position: int, known: dict[str, Any], hints: dict[str, Any], name: str) -> Any:
    places = [one for one in known.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    rest = [one for one in known.values() if one.kind is one.VAR_POSITIONAL]
    if position >= len(places) and not rest:
        raise Mistake(f"{name} has no place for {word!r}. It takes: {_usage(known)}.")
    one = places[position] if position < len(places) else rest[0]
    return _value(word, hints.get(one.name), one.name)


def _usage(known: dict[str, inspect.Parameter]) -> str:
    return ", ".join(str(one) for one in known.values()) or "nothing"


def _value(text: str, kind: Any, name: str) -> Any:
    wanted = [one for one in _alternatives(kind) if one is not type(None)]
    if type(None) in _alternatives(kind) and text.lower() == "none":
        return None
    for one in wanted:
        try:
            return _as(text, one)
        except (ValueError, TypeError, SyntaxError):
            continue
    names = " or ".join(getattr(one, "__name__", str(one)) for one in wanted)
    raise Mistake(f"{name} got {text!r}, which is no {names}.")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _as(text: str, kind: Any) -> Any:
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
    found = ast.literal_eval(text) if typing.get_origin(kind) or kind in (list, dict, tuple, set) else kind(text)
    expected = typing.get_origin(kind) or kind
    if isinstance(expected, type) and not isinstance(found, expected):
        raise ValueError(text)
    return found
