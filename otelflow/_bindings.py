"""Names of modules that are bound to a function: found, and bound to another one, in all of them at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from otelflow._members import namespace

__all__ = ["held", "rebind"]

_OUR_OWN = ("otelflow", "opentelemetry", "wrapt")


def rebind(swaps: Iterable[tuple[Any, Any]], begin_at: str | None = None) -> None:
    """Wherever a module's name is bound to the first object of a pair, bind it to the second: what ``from x import f``
    made. ``begin_at``: look only at the module of that name, and at those that were imported after it.

    One pass over all modules, however many pairs there are. What objects hold (a list of handlers, a registry) stays.
    """
    pairs = {id(before): (before, after) for before, after in swaps}
    if pairs:
        for names, name, value in _bindings(begin_at):
            found = pairs.get(id(value))
            if found is not None and found[0] is value:
                names[name] = found[1]


def held(objects: Iterable[Any]) -> set[int]:
    """The ids of those objects that a name of some module is bound to."""
    wanted = {id(one) for one in objects}
    return {id(value) for _, _, value in _bindings(None) if id(value) in wanted} if wanted else set()


def _bindings(begin_at: str | None) -> Iterator[tuple[dict[str, Any], str, Any]]:
    entries = list(sys.modules.items())  # in the order of import
    if begin_at is not None:
        entries = entries[next((index for index, entry in enumerate(entries) if entry[0] == begin_at), 0) :]
    for module_name, module in entries:
        if module_name.partition(".")[0] in _OUR_OWN:
            continue
        try:
            names = namespace(module)
        except Exception:  # an entry of sys.modules may be any object
            continue
        for name, value in list(names.items()):
            yield names, name, value
