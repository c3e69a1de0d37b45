"""Rebind the names of all modules that are bound to a function."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Set
from typing import Any

from otelflow._instrument.lookup import namespace
from otelflow._instrument.targets import OWN_PACKAGES

__all__ = ["ids_of_bound", "rebind"]


def rebind(replacements: Iterable[tuple[Any, Any]], first_module: str | None = None) -> None:
    """Replace the first object of each pair by the second in all modules, names from ``from x import f`` too.

    With ``first_module``, only that module and those imported after it are searched. There is one pass over all
    modules, for any number of pairs. References in objects (a list of handlers, a registry) stay.
    """
    pairs = {id(original): (original, replacement) for original, replacement in replacements}
    for names in _namespaces_with(pairs.keys(), first_module):
        for name, value in list(names.items()):
            pair = pairs.get(id(value))
            if pair is not None and pair[0] is value:
                names[name] = pair[1]


def ids_of_bound(objects: Iterable[Any]) -> set[int]:
    """Return the ids of the objects that some name of a module is bound to."""
    object_ids = {id(item) for item in objects}
    bound_ids = {id(value) for names in _namespaces_with(object_ids, None) for value in list(names.values())}
    return object_ids & bound_ids


def _namespaces_with(object_ids: Set[int], first_module: str | None) -> Iterator[dict[str, Any]]:
    """Yield the namespaces of the modules that contain one of the objects."""
    if not object_ids:
        return
    entries = list(sys.modules.items())  # in the order of import
    if first_module is not None:
        entries = entries[next((index for index, entry in enumerate(entries) if entry[0] == first_module), 0) :]
    for module_name, module in entries:
        if module_name.partition(".")[0] in OWN_PACKAGES:
            continue
        try:
            names = namespace(module)
        except Exception:  # an entry of sys.modules may be any object
            continue
        # isdisjoint and map run in C: a process may have 100,000 names.
        if not object_ids.isdisjoint(map(id, list(names.values()))):
            yield names
