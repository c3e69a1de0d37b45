"""Find what a configuration matches in the installed code, with errors and warnings for each target."""

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
from otelflow._runtime.names import unwrap
from otelflow.errors import nearest

__all__ = ["Finding", "dry_run", "load_contrib"]

_CONTRIB = "opentelemetry.instrumentation"
_CONTAINERS = (dict, list, tuple, set, frozenset)


class Finding(NamedTuple):
    """Result of the dry run for one target."""

    target: Target
    functions: list[str]
    """Functions that would be wrapped, as ``module:qualname``."""
    errors: list[str]
    """Reasons why the target, or a part of it, cannot be instrumented."""
    warnings: list[str]
    """Effects that the user may not expect."""


def load_contrib() -> None:
    """Activate the installed instrumentation packages, as ``opentelemetry-instrument`` does.

    Their errors and log lines are suppressed: this command reports on otelflow's targets only.
    """
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    for entry in entry_points(group="opentelemetry_instrumentor"):
        if entry.name != "otelflow":
            try:
                entry.load()().instrument()
            except Exception:  # its library is missing or has an unsupported version
                continue


def dry_run(targets: Iterable[Target]) -> list[Finding]:
    """Import the modules that the targets name, and return what each target matches."""
    results = [(target, *_import_and_match(target)) for target in targets]
    raws = [match.raw for _, matches, _ in results for match in matches]
    holder_classes = find_holder_classes(raw for raw in raws if isinstance(raw, type(dry_run)))
    first_targets: dict[int, Target] = {}
    return [
        _make_finding(target, matches, errors, holder_classes, first_targets) for target, matches, errors in results
    ]


def _make_finding(
    target: Target,
    matches: list[Match],
    errors: list[str],
    holder_classes: dict[int, list[str]],
    first_targets: dict[int, Target],
) -> Finding:
    warnings = []
    for match in matches:
        first_target = first_targets.setdefault(id(match.raw), target)
        if first_target is not target:
            warnings.append(f"{match.full_name} is also named at {first_target.place}, which takes effect")
        if is_ours(match.raw):
            warnings.append(f"{match.full_name} is already decorated with otelflow and stays unchanged")
        package = _contrib_module(match.function)
        if package is not None:
            warnings.append(f"{match.full_name} is also instrumented by {package}: each call will have two spans")
        if holder_classes.get(id(match.raw)):
            classes = ", ".join(holder_classes[id(match.raw)][:3])
            warnings.append(
                f"{match.full_name} is also stored in {classes}: its calls make no spans. Name a function that it calls"
            )
    if not (errors and target.is_exact):  # else it would repeat the same error
        errors = errors + _try_wrapping(target)
    if not matches and not errors and target.module != "__main__":
        errors = ["it matches no function"]
    functions = [match.full_name for match in matches if not is_ours(match.raw)]
    return Finding(target, functions, errors, warnings)


def _try_wrapping(target: Target) -> list[str]:
    """Wrap the target and undo it: some errors appear only then."""
    registration = Registration([target], ("__main__",))
    problems = register(registration, strict=False)
    unregister(registration)
    return [problem.text.removeprefix(f"{target}: ") for problem in problems]


def _import_and_match(target: Target) -> tuple[list[Match], list[str]]:
    errors = list(_import_modules(target))
    matches: list[Match] = []
    for module in _loaded_modules(target):
        try:
            matches.extend(find_matches(target, module))
        except NotInstrumentable as error:
            errors.append(str(error))
    return matches, errors


def _loaded_modules(target: Target) -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name != "__main__" and isinstance(module, ModuleType) and target.matches_module(name)
    ]


def _contrib_module(function: Any) -> str | None:
    """Return the module of the instrumentation package that wrapped the function, or None."""
    for candidate in (getattr(function, "_self_wrapper", None), function):
        module_name = getattr(unwrap(candidate), "__globals__", {}).get("__name__", "")
        if module_name.startswith(f"{_CONTRIB}."):
            return str(module_name)
    return None


# --- imports ----------------------------------------------------------------------------------------------------------


def _import_modules(target: Target) -> Iterator[str]:
    """Import every module that the target may match. Yields the errors."""
    if target.module == "__main__":
        return
    parts = target.module.split(".")
    literal_parts = (
        parts if target.has_exact_module else parts[: next(i for i, part in enumerate(parts) if set(part) & set("*?["))]
    )
    base = ".".join(literal_parts)
    yield from _import_module(base)
    package = sys.modules.get(base)
    if not target.has_exact_module and package is not None and hasattr(package, "__path__"):
        failed_names: list[str] = []
        for info in pkgutil.walk_packages(package.__path__, f"{base}.", onerror=failed_names.append):
            if target.matches_module(info.name) and not info.name.endswith(".__main__"):
                yield from _import_module(info.name)


def _import_module(name: str) -> Iterator[str]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            yield _missing_module_text(error.name)
        else:
            yield f"importing {name} raised ModuleNotFoundError: {error}"
    except (Exception, SystemExit) as error:
        yield f"importing {name} raised {type(error).__name__}: {error}"


def _missing_module_text(name: str) -> str:
    parent, _, last = name.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    siblings = [info.name for info in pkgutil.iter_modules(path)]
    hint = nearest(last, siblings).replace("'", f"'{parent}." if parent else "'", 1)
    return f"there is no module {name!r}{hint and '.' + hint}"


# --- objects that hold a function: they call it without looking up its name, so they do not see its replacement -------


def find_holder_classes(functions: Iterable[Any]) -> dict[int, list[str]]:
    """Return the classes of objects that hold each function, by the function's id: routes of a framework, a registry.

    Modules and classes do not count: instrumenting rebinds their names. One pass over all objects of the process.
    """
    functions_by_id = {id(function): function for function in functions}
    module_namespaces = {id(vars(item)) for item in gc.get_objects() if isinstance(item, ModuleType)}
    class_counts: dict[int, Counter[str]] = {}
    for holder in gc.get_referrers(*functions_by_id.values()):
        if (
            holder is functions_by_id
            or id(holder) in module_namespaces
            or isinstance(holder, type | FrameType | FunctionType)
        ):
            continue
        class_name = _holder_class(holder)
        if class_name is not None:
            for function in gc.get_referents(holder):
                if id(function) in functions_by_id:
                    class_counts.setdefault(id(function), Counter())[class_name] += 1
    return {key: [name for name, _ in counts.most_common()] for key, counts in class_counts.items()}


def _holder_class(holder: Any) -> str | None:
    """Return the class of an object, or of the object that has it as ``__dict__``; None for containers and builtins."""
    if isinstance(holder, dict):
        owners = [item for item in gc.get_referrers(holder) if getattr(item, "__dict__", None) is holder]
        holder = owners[0] if owners else None
    if holder is None or isinstance(holder, _CONTAINERS) or type(holder).__module__ == "builtins":
        return None
    module = type(holder).__module__
    return None if module.partition(".")[0] == "otelflow" else f"{module}.{type(holder).__qualname__}"
