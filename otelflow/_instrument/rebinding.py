"""Names of modules that are bound to a function: found, and bound to another one, in all of them at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Set
from typing import Any

from otelflow._instrument.lookup import namespace
from otelflow._instrument.targets import OUR_OWN

__all__ = ["held", "rebind"]


def rebind(swaps: Iterable[tuple[Any, Any]], begin_at: str | None = None) -> None:
    """Wherever a module's name is bound to the first object of a pair, bind it to the second: what ``from x import f``
    made. ``begin_at``: look only at the module of that name, and at those that were imported after it.

    One pass over all modules, however many pairs there are. What objects hold (a list of handlers, a registry) stays.
    """
    pairs = {id(before): (before, after) for before, after in swaps}
    for names in _namespaces_with(pairs.keys(), begin_at):
        for name, value in list(names.items()):
            found = pairs.get(id(value))
            if found is not None and found[0] is value:
                names[name] = found[1]


def held(objects: Iterable[Any]) -> set[int]:
    """The ids of those objects that a name of some module is bound to."""
    wanted = {id(one) for one in objects}
    found = {id(value) for names in _namespaces_with(wanted, None) for value in list(names.values())}
    return wanted & found


def _namespaces_with(wanted: Set[int], begin_at: str | None) -> Iterator[dict[str, Any]]:
    """The names of those modules that have one of the objects with the ids ``wanted``."""
    if not wanted:
        return
    entries = list(sys.modules.items())  # in the order of import
    if begin_at is not None:
        entries = entries[next((index for index, entry in enumerate(entries) if entry[0] == begin_at), 0) :]
    for module_name, module in entries:
        if module_name.partition(".")[0] in OUR_OWN:
            continue
        try:
            names = namespace(module)
        except Exception:  # an entry of sys.modules may be any object
            continue
        if not wanted.isdisjoint(map(id, list(names.values()))):  # at the speed of C: a process has 100,000 names
            yield names
