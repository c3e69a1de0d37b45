"""Show what a configuration would do to the installed code: what each target means, and what is in its way."""

from __future__ import annotations

import gc
import importlib
import logging
import pkgutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from types import FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

from otelflow._instrument.lookup import Match, NotInstrumentable, find_matches, is_ours
from otelflow._instrument.registry import Registration, register, unregister
from otelflow._instrument.targets import Target
from otelflow._runtime.names import unwrapped
from otelflow.errors import nearest

__all__ = ["Finding", "dry_run", "load_contrib"]

_CONTRIB = "opentelemetry.instrumentation"
_CONTAINERS = (dict, list, tuple, set, frozenset)


class Finding(NamedTuple):
    """What was found for one target."""

    target: Target
    functions: list[str]
    """What would be wrapped, as ``module:qualname``."""
    errors: list[str]
    """Why the target, or a part of it, comes to nothing."""
    warnings: list[str]
    """What would not be as one may expect."""


def load_contrib() -> None:
    """Switch on the instrumentation packages that are installed, as ``opentelemetry-instrument`` would. What they
    cannot do is of no interest here."""
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    for entry in entry_points(group="opentelemetry_instrumentor"):
        if entry.name != "otelflow":
            try:
                entry.load()().instrument()
            except Exception:  # its library is not installed, or of another version
                continue


def dry_run(targets: Iterable[Target]) -> list[Finding]:
    """Import what the targets name, and look what they match."""
    found = [(target, *_members_of(target)) for target in targets]
    raws = [member.raw for _, matched, _ in found for member in matched]
    held = holders(raw for raw in raws if isinstance(raw, type(dry_run)))
    seen: dict[int, Target] = {}
    return [_finding(target, matched, errors, held, seen) for target, matched, errors in found]


def _finding(
    target: Target, matched: list[Match], errors: list[str], held: dict[int, list[str]], seen: dict[int, Target]
) -> Finding:
    warnings = []
    for member in matched:
        before = seen.setdefault(id(member.raw), target)
        if before is not target:
            warnings.append(f"{member.shown} is what {before.place} names as well: that one counts")
        if is_ours(member.raw):
            warnings.append(f"{member.shown} is decorated with otelflow already, and stays as it is")
        contrib = _contrib(member.function)
        if contrib is not None:
            warnings.append(f"{member.shown} is instrumented by {contrib} as well: there will be two spans a call")
        if held.get(id(member.raw)):
            kinds = ", ".join(held[id(member.raw)][:3])
            warnings.append(f"{member.shown} is held by {kinds} too: calls from there are not seen. Name what it calls")
    if not (errors and target.is_exact):  # else it would only say the same again
        errors = errors + _trial(target)
    if not matched and not errors and target.module != "__main__":
        errors = ["nothing matches"]
    functions = [member.shown for member in matched if not is_ours(member.raw)]
    return Finding(target, functions, errors, warnings)


def _trial(target: Target) -> list[str]:
    """Wrap and unwrap it, as what is wrong may show then only."""
    claim = Registration([target], ("__main__",))
    problems = register(claim, strict=False)
    unregister(claim)
    return [one.text.removeprefix(f"{target}: ") for one in problems]


def _members_of(target: Target) -> tuple[list[Match], list[str]]:
    errors = list(_import(target))
    matched: list[Match] = []
    for module in _loaded(target):
        try:
            matched.extend(find_matches(target, module))
        except NotInstrumentable as why:
            errors.append(str(why))
    return matched, errors


def _loaded(target: Target) -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name != "__main__" and isinstance(module, ModuleType) and target.wants_module(name)
    ]


def _contrib(function: Any) -> str | None:
    """The instrumentation package that has put something in the function's place."""
    for one in (getattr(function, "_self_wrapper", None), function):
        where = getattr(unwrapped(one), "__globals__", {}).get("__name__", "")
        if where.startswith(f"{_CONTRIB}."):
            return str(where)
    return None


# --- imports ----------------------------------------------------------------------------------------------------------


def _import(target: Target) -> Iterator[str]:
    """Import every module that the target may mean. Yields what goes wrong."""
    if target.module == "__main__":
        return
    parts = target.module.split(".")
    plain = parts if target.names_module else parts[: next(i for i, one in enumerate(parts) if set(one) & set("*?["))]
    base = ".".join(plain)
    yield from _import_one(base)
    package = sys.modules.get(base)
    if not target.names_module and package is not None and hasattr(package, "__path__"):
        failed: list[str] = []
        for info in pkgutil.walk_packages(package.__path__, f"{base}.", onerror=failed.append):
            if target.wants_module(info.name) and not info.name.endswith(".__main__"):
                yield from _import_one(info.name)


def _import_one(name: str) -> Iterator[str]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            yield _no_module(error.name)
        else:
            yield f"importing {name} raised ModuleNotFoundError: {error}"
    except (Exception, SystemExit) as error:
        yield f"importing {name} raised {type(error).__name__}: {error}"


def _no_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    beside = [info.name for info in pkgutil.iter_modules(path)]
    near = nearest(last, beside).replace("'", f"'{parent}." if parent else "'", 1)
    return f"there is no module {name!r}{near and '.' + near}"


# --- what else holds a function: objects that call it without looking its name up do not see its replacement ----------


def holders(functions: Iterable[Any]) -> dict[int, list[str]]:
    """By the id of each function, the classes of the objects that hold it: a web framework's routes, a registry.

    Modules and classes do not count, as their names are bound anew. One pass over all objects of the process.
    """
    wanted = {id(one): one for one in functions}
    names = {id(vars(one)) for one in gc.get_objects() if isinstance(one, ModuleType)}
    found: dict[int, Counter[str]] = {}
    for holder in gc.get_referrers(*wanted.values()):
        if holder is wanted or id(holder) in names or isinstance(holder, type | FrameType | FunctionType):
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
