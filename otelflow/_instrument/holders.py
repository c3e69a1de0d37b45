"""What else holds a function: objects that call it without looking its name up do not see what is put in its place."""

from __future__ import annotations

import gc
import types
from collections import Counter
from collections.abc import Iterable
from typing import Any

__all__ = ["holders"]

_CONTAINERS = (dict, list, tuple, set, frozenset)


def holders(functions: Iterable[Any]) -> dict[int, list[str]]:
    """By the id of each function, the classes of the objects that hold it: a web framework's routes, a registry.

    Modules and classes do not count, as their names are bound anew. One pass over all objects of the process.
    """
    wanted = {id(one): one for one in functions}
    names = {id(vars(one)) for one in gc.get_objects() if isinstance(one, types.ModuleType)}
    found: dict[int, Counter[str]] = {}
    for holder in gc.get_referrers(*wanted.values()):
        if holder is wanted or id(holder) in names or isinstance(holder, type | types.FrameType | types.FunctionType):
            continue
        kind = _kind(holder)
        if kind is not None:
            for held in gc.get_referents(holder):
                if id(held) in wanted:
                    found.setdefault(id(held), Counter())[kind] += 1
    return {key: [kind for kind, _ in counted.most_common()] for key, counted in found.items()}


def _kind(holder: Any) -> str | None:
    """The class of an object, or of the object whose ``__dict__`` this is; None for what is of no interest."""
    if isinstance(holder, dict):
        owners = [one for one in gc.get_referrers(holder) if getattr(one, "__dict__", None) is holder]
        holder = owners[0] if owners else None
    if holder is None or isinstance(holder, _CONTAINERS) or type(holder).__module__ == "builtins":
        return None
    module = type(holder).__module__
    return None if module.partition(".")[0] == "otelflow" else f"{module}.{type(holder).__qualname__}"
