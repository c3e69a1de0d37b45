"""Registry of all instrumented functions in this process: their registrations, and how to restore them."""

from __future__ import annotations

import atexit
import importlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from otelflow._instrument.import_hook import ImportHook
from otelflow._instrument.lookup import (
    Match,
    NotInstrumentable,
    call_through_super,
    find_matches,
    is_ours,
    make_replacement,
    namespace,
)
from otelflow._instrument.rebinding import ids_of_bound, rebind
from otelflow._instrument.targets import Problem, Target, matches_part
from otelflow._instrument.wrapped_call import Stop, make_instrumented_call
from otelflow._runtime.fork import FreshLock
from otelflow._runtime.log_once import log_once

__all__ = ["Registration", "instrument_definition", "instrumented_functions", "register", "unregister"]

_logger = logging.getLogger("otelflow")
CallFactory = Callable[[Target, Any], "tuple[Any, Stop]"]
"""Returns the call that a wrapper around a function makes, and a function that stops it."""
Replacement = tuple[Any, Any]
"""A function and its wrapper."""


class Registration:
    """The targets of one ``instrument()`` call, with the number of matches of each."""

    def __init__(
        self,
        targets: Iterable[Target],
        main_names: tuple[str, ...] = (),
        make_call: CallFactory = make_instrumented_call,
    ) -> None:
        self.targets = list(targets)
        self.make_call = make_call
        self.main_names = main_names
        """Names of the module that is about to run as a program. Empty if the program runs already."""
        self.matches: dict[Target, dict[str, int]] = {}
        """Number of functions that each target matches, by module: a reload does not add to it."""
        self.logged_problems: set[str] = set()
        """Problems of modules that were imported later. Each is logged once."""


class _WrappedMember:
    """A wrapped name in a module or class. It stays wrapped while it has a registration."""

    def __init__(self, match: Match, wrapper: Any, stop: Stop) -> None:
        self._owner = weakref.ref(match.owner)  # a reload may free the class before the undo
        self.is_of_module = isinstance(match.owner, ModuleType)
        self.name, self.raw, self.is_inherited = match.name, match.raw, match.is_inherited
        self.wrapper, self.stop, self.full_name = wrapper, stop, match.full_name
        self.registrations: set[Registration] = set()

    def is_replaced_in(self, module: ModuleType) -> bool:
        """Return whether ``module`` was reloaded and now has another value for this name."""
        owner = self._owner()
        if owner is None:
            return True
        is_owner = owner is module or (not self.is_of_module and owner.__module__ == module.__name__)
        return is_owner and not self.is_in_place

    @property
    def is_in_place(self) -> bool:
        owner = self._owner()
        return owner is not None and vars(owner).get(self.name) is self.wrapper

    def restore(self) -> None:
        """Stop the wrapper, and restore the original value unless other code has replaced the wrapper."""
        self.stop()
        owner = self._owner()
        if owner is None or not self.is_in_place:
            return
        try:
            if self.is_inherited:
                delattr(owner, self.name)
            else:
                setattr(owner, self.name, self.raw)
        except Exception:  # a metaclass may refuse by now: the wrapper stays, and makes no spans
            log_once(
                f"undo {self.full_name}",
                "otelflow could not remove its wrapper from %s; the wrapper makes no more spans.",
                self.full_name,
            )


class _Registry:
    """State behind the functions of this module. Callers hold ``_lock``."""

    def __init__(self) -> None:
        self.registrations: list[Registration] = []
        self.members: dict[tuple[int, str], _WrappedMember] = {}
        self.stale_members: list[_WrappedMember] = []
        """Members that a reload replaced and that another module still has a name for."""
        self._hook = ImportHook(self._is_target_module, self._on_import)
        self._by_wrapper: dict[int, _WrappedMember] = {}
        self._by_original: dict[int, _WrappedMember] = {}
        """Functions of modules, by the id of the original."""
        self._imported_names: set[str] = set()
        self._exact_modules: set[str] = set()
        self._pattern_targets: list[Target] = []

    # --- registrations ------------------------------------------------------------------------------------------

    def add(self, registration: Registration) -> list[Problem]:
        """Wrap the matches in imported modules, and watch later imports. Returns what cannot be wrapped."""
        modules = {name: item for name, item in list(sys.modules.items()) if issubclass(type(item), ModuleType)}
        if registration.main_names:
            del modules["__main__"]
        matches, problems = _match_targets(registration, modules)
        self.registrations.append(registration)
        self._update_import_hook()
        wrap_problems, replacements = self._wrap_matches(registration, matches)
        rebind(replacements)
        return problems + wrap_problems

    def remove(self, registration: Registration) -> None:
        """Restore the functions that no other registration needs."""
        self.registrations.remove(registration)
        self._update_import_hook()
        released = []
        for member in (*self.members.values(), *self.stale_members):
            if registration in member.registrations:
                member.registrations.discard(registration)
                if not member.registrations:
                    released.append(member)
        for member in released:
            member.restore()
        rebind((member.wrapper, member.raw) for member in released if member.is_of_module)
        self.members = {key: member for key, member in self.members.items() if member.registrations}
        self.stale_members = [member for member in self.stale_members if member.registrations]
        self._rebuild_indexes()
        if not self.registrations:
            self._imported_names.clear()

    def _rebuild_indexes(self) -> None:
        self._by_wrapper = {id(member.wrapper): member for member in self.members.values()}
        self._by_original = {id(member.raw): member for member in self.members.values() if member.is_of_module}

    def close(self) -> None:
        """Drop all references to wrapped objects; they stay wrapped."""
        self._hook.remove()
        self.registrations.clear()
        self.stale_members.clear()
        for members in (self.members, self._by_wrapper, self._by_original):
            members.clear()

    def _update_import_hook(self) -> None:
        targets = [target for registration in self.registrations for target in registration.targets]
        self._exact_modules = {target.module for target in targets if target.has_exact_module}
        self._pattern_targets = [target for target in targets if not target.has_exact_module]
        if targets:
            self._hook.install()
        else:
            self._hook.remove()

    # --- imports ------------------------------------------------------------------------------------------------

    def _is_target_module(self, name: str) -> bool:
        return name in self._exact_modules or any(target.matches_module(name) for target in self._pattern_targets)

    def _on_import(self, module: ModuleType) -> None:
        with _lock:
            if module.__name__ in self._imported_names:
                self._discard_replaced(module)
            self._imported_names.add(module.__name__)
            for registration in self.registrations:
                matches, problems = _match_targets(registration, {module.__name__: module}, module.__name__)
                wrap_problems, replacements = self._wrap_matches(registration, matches)
                rebind(replacements, module.__name__)
                for problem in problems + wrap_problems:
                    if str(problem) not in registration.logged_problems:
                        registration.logged_problems.add(str(problem))
                        _logger.warning("otelflow could not instrument a target: %s", problem)

    def _discard_replaced(self, module: ModuleType) -> None:
        """Drop members that a reload of ``module`` replaced, if no other module has a name for them."""
        replaced = {key: member for key, member in self.members.items() if member.is_replaced_in(module)}
        if replaced or self.stale_members:
            self.members = {key: member for key, member in self.members.items() if key not in replaced}
            candidates = [*self.stale_members, *replaced.values()]
            bound_ids = ids_of_bound(member.wrapper for member in candidates)
            self.stale_members = [member for member in candidates if id(member.wrapper) in bound_ids]
            self._rebuild_indexes()

    def on_definition(self, module: ModuleType, name: str) -> None:
        """Wrap what a program just defined as ``name``, if a target matches it."""
        for registration in self.registrations:
            matches = []
            for target in registration.targets:
                if matches_part(target.qualname.partition(".")[0], name) and any(
                    map(target.matches_module, registration.main_names)
                ):
                    try:
                        matches += [(target, match) for match in find_matches(target, module, name)]
                    except NotInstrumentable:  # another object with that name; the program may bind the name again
                        pass
            self._wrap_matches(registration, matches)

    # --- wrapping -----------------------------------------------------------------------------------------------

    def _wrap_matches(
        self, registration: Registration, matches: list[tuple[Target, Match]]
    ) -> tuple[list[Problem], list[Replacement]]:
        """Wrap the matches. Returns the problems, and the replaced functions of modules."""
        problems: list[Problem] = []
        replacements: list[Replacement] = []
        for target, match in matches:
            member = self._wrapped_member(match)
            if member is None:
                original_match = self._original_match(match)
                if original_match is None:
                    continue  # decorated with @flow or @task: it makes its own span
                try:
                    member = self._wrap(registration.make_call, target, original_match)
                except Exception as error:  # a metaclass may refuse; argument paths may not fit
                    if target.is_exact or isinstance(error, ValueError):
                        problems.append(Problem(target.place, f"{target}: {error}"))
                    continue
                if member.is_of_module:
                    replacements.append((member.raw, member.wrapper))
            member.registrations.add(registration)
            counts = registration.matches.setdefault(target, {})
            counts[match.module] = counts.get(match.module, 0) + 1
        return problems, replacements

    def _wrapped_member(self, match: Match) -> _WrappedMember | None:
        """Return the member that already wraps a match: for another target or registration, or under another name."""
        member = self.members.get((id(match.owner), match.name))
        if member is not None and member.is_in_place:
            return member
        if not match.is_inherited and id(match.raw) in self._by_wrapper:
            return self._by_wrapper[id(match.raw)]
        return self._by_original.get(id(match.raw)) if issubclass(type(match.owner), ModuleType) else None

    def _original_match(self, match: Match) -> Match | None:
        """Return the match with its original value; None if it is decorated."""
        if not is_ours(match.raw):
            return match
        member = self._by_wrapper.get(id(match.raw))
        if member is not None:  # inherited from a class with a wrapper: this class gets its own wrapper
            return match._replace(raw=member.raw)
        # A wrapper that could not be removed has no member any more, but its call still has the original.
        original = getattr(getattr(match.raw, "_self_wrapper", None), "original", None)
        return None if original is None else match._replace(raw=original)

    def _wrap(self, make_call: CallFactory, target: Target, match: Match) -> _WrappedMember:
        call, stop = make_call(target, match.function)
        if match.is_inherited:
            call = call_through_super(match, call)
        call.original = match.raw
        wrapper = make_replacement(match, call)
        member = _WrappedMember(match, wrapper, stop)
        try:
            setattr(match.owner, match.name, wrapper)
        except (TypeError, AttributeError) as error:
            raise TypeError(f"{match.full_name} cannot be replaced: {error}") from error
        self.members[id(match.owner), match.name] = self._by_wrapper[id(wrapper)] = member
        if member.is_of_module:
            self._by_original[id(member.raw)] = member
        return member


def _match_targets(
    registration: Registration, modules: dict[str, ModuleType], imported_name: str | None = None
) -> tuple[list[tuple[Target, Match]], list[Problem]]:
    """Return what the targets match in ``modules``, and the problems. ``imported_name`` was imported just now."""
    matches: list[tuple[Target, Match]] = []
    problems = []
    for target in registration.targets:
        if target.has_exact_module:
            target_modules = [modules[target.module]] if target.module in modules else []
        else:
            target_modules = [module for name, module in modules.items() if target.matches_module(name)]
        try:
            target_matches = [match for module in target_modules for match in find_matches(target, module)]
        except NotInstrumentable as error:
            is_early = any(_is_being_imported(module) for module in target_modules if module.__name__ != imported_name)
            hint = " (its import has not finished: call instrument() after it)" if is_early else ""
            problems.append(Problem(target.place, f"{target}: {error}{hint}"))
            continue
        counts = registration.matches.get(target, {})
        total = len(target_matches) + sum(number for name, number in counts.items() if name not in modules)
        if total > target.limit:
            problems.append(Problem(target.place, _limit_text(target, total)))
        else:
            matches += [(target, match) for match in target_matches]
            counts.update(dict.fromkeys(modules.keys() & counts.keys(), 0))
    return matches, problems


def _limit_text(target: Target, total: int) -> str:
    return (
        f"{target} matches {total} functions; its limit is {target.limit}. No more of them are instrumented. "
        f"Use a narrower pattern or exclude, or set limit = {total}."
    )


_lock = FreshLock()
_registry = _Registry()


def _close_registry() -> None:
    """At exit: drop all references to wrapped objects, which stay wrapped.

    Otherwise objects that modules hold would not be destroyed as usual. A file that only its destruction closes would
    be incomplete.
    """
    with _lock:
        _registry.close()


atexit.register(_close_registry)


def register(registration: Registration, *, strict: bool) -> list[Problem]:
    """Instrument the targets of a registration. Returns the problems; with ``strict``, one undoes all."""
    _wait_for_imports(registration)
    with _lock:
        problems = _registry.add(registration)
        if strict and problems:
            _registry.remove(registration)
        return problems


def _wait_for_imports(registration: Registration) -> None:
    """Wait until other threads have imported the modules of the targets. Python's import lock tells when.

    A thread cannot wait for its own imports; importlib detects this case. The time is limited, because the importing
    thread may wait for this one.
    """
    names = [name for name in list(sys.modules) if any(target.matches_module(name) for target in registration.targets)]
    for name in names:
        if _is_being_imported(sys.modules.get(name)):
            waiter = threading.Thread(target=_import_quietly, args=(name,), daemon=True)
            waiter.start()
            waiter.join(_IMPORT_TIMEOUT_SECONDS)


_IMPORT_TIMEOUT_SECONDS = 3


def _import_quietly(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # the thread that imports the module gets the error
        pass


def _is_being_imported(module: Any) -> bool:
    """Return whether a module is being imported now."""
    if not issubclass(type(module), ModuleType):
        return False
    return bool(getattr(namespace(module).get("__spec__"), "_initializing", False))


def instrument_definition(module: ModuleType, name: str) -> None:
    """Instrument what a program just defined at its top level. The next line may already call it."""
    try:
        with _lock:
            _registry.on_definition(module, name)
    except Exception:
        log_once(
            f"define {name}",
            "otelflow could not instrument %s of the program; the program continues.",
            name,
            exc_info=True,
        )


def unregister(registration: Registration) -> None:
    """Restore the functions that only this registration needs."""
    with _lock:
        if registration in _registry.registrations:
            _registry.remove(registration)


def instrumented_functions(registration: Registration) -> list[str]:
    """Return the names of the functions that are wrapped for a registration, sorted."""
    with _lock:
        return sorted(member.full_name for member in _registry.members.values() if registration in member.registrations)
