"""Everything that is instrumented in this process: which functions, for whom, and how it is taken back."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from otelflow._bindings import held, rebind
from otelflow._fork import after_fork_in_child
from otelflow._import_hook import ImportHook
from otelflow._instrumented import Stop, instrumented
from otelflow._members import Member, Refused, is_ours, members, replacement
from otelflow._targets import Problem, Target, fits_part

__all__ = ["Claim", "define", "enter", "instrumented_now", "withdraw"]

_logger = logging.getLogger("otelflow")
Make = Callable[[Target, Any], "tuple[Any, Stop]"]
"""Makes what a wrapper around a function calls, and how that is switched off."""


class Claim:
    """The targets of one ``instrument()``, and what was found for each."""

    def __init__(self, targets: Iterable[Target], main: tuple[str, ...] = (), make: Make = instrumented) -> None:
        self.targets = list(targets)
        self.make = make
        self.main = main
        """The names of the module that is about to run as a program; empty where that is on its way already."""
        self.matches: dict[Target, int] = {}
        self.told: set[str] = set()
        """Problems of modules that were imported later, each said once."""


class _Wrapped:
    """One member that is wrapped, as long as somebody claims it."""

    def __init__(self, member: Member, put: Any, stop: Stop) -> None:
        self._owner = weakref.ref(member.owner)  # a class may be gone before it is undone: after a reload
        self.is_of_module = isinstance(member.owner, ModuleType)
        self.name, self.raw, self.is_inherited = member.name, member.raw, member.is_inherited
        self.put, self.stop, self.shown = put, stop, member.shown
        self.claims: set[Claim] = set()

    @property
    def is_in_place(self) -> bool:
        owner = self._owner()
        return owner is not None and vars(owner).get(self.name) is self.put

    def take_away(self) -> None:
        """Put back what stood here, unless somebody else has put something here since. Stop in any case."""
        self.stop()
        owner = self._owner()
        if owner is None or not self.is_in_place:
            return
        if self.is_inherited:
            delattr(owner, self.name)
        else:
            setattr(owner, self.name, self.raw)


class _Registry:
    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.wrapped: dict[tuple[int, str], _Wrapped] = {}
        self.replaced: list[_Wrapped] = []
        """What a reload put something new in the place of, and another module still holds."""
        self._hook = ImportHook(self._wants, self._imported)
        self._exact: set[str] = set()
        self._patterns: list[Target] = []

    # --- claims -------------------------------------------------------------------------------------------------

    def add(self, claim: Claim) -> list[Problem]:
        """Wrap what is imported already, and watch for the rest. Returns what cannot be wrapped."""
        modules = {name: module for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}
        if claim.main:
            del modules["__main__"]
        planned, problems = _plan(claim, modules)
        self.claims.append(claim)
        self._watch()
        return problems + self._install(claim, planned, None)

    def remove(self, claim: Claim) -> None:
        """Make bare what nobody else claims."""
        self.claims.remove(claim)
        self._watch()
        let_go = []
        for one in (*self.wrapped.values(), *self.replaced):
            if claim in one.claims:
                one.claims.discard(claim)
                if not one.claims:
                    let_go.append(one)
        for one in let_go:
            one.take_away()
        rebind((one.put, one.raw) for one in let_go if one.is_of_module)
        self.wrapped = {key: one for key, one in self.wrapped.items() if one.claims}
        self.replaced = [one for one in self.replaced if one.claims]

    def _watch(self) -> None:
        targets = [target for claim in self.claims for target in claim.targets]
        self._exact = {target.module for target in targets if target.names_module}
        self._patterns = [target for target in targets if not target.names_module]
        if targets:
            self._hook.install()
        else:
            self._hook.remove()

    # --- imports ------------------------------------------------------------------------------------------------

    def _wants(self, name: str) -> bool:
        return name in self._exact or any(target.wants_module(name) for target in self._patterns)

    def _imported(self, module: ModuleType) -> None:
        with _lock:
            self._forget_replaced()
            for claim in self.claims:
                planned, problems = _plan(claim, {module.__name__: module}, module.__name__)
                for problem in problems + self._install(claim, planned, module.__name__):
                    if str(problem) not in claim.told:
                        claim.told.add(str(problem))
                        _logger.warning("not instrumented: %s", problem)

    def _forget_replaced(self) -> None:
        """After a reload: what is neither in its place nor held by another module is of no use."""
        gone = {key: one for key, one in self.wrapped.items() if not one.is_in_place}
        if gone or self.replaced:
            self.wrapped = {key: one for key, one in self.wrapped.items() if key not in gone}
            candidates = [*self.replaced, *gone.values()]
            still = held(one.put for one in candidates)
            self.replaced = [one for one in candidates if id(one.put) in still]

    def define(self, module: ModuleType, name: str) -> None:
        """A program bound a name: wrap what it stands for, where a target wants that."""
        for claim in self.claims:
            planned = []
            for target in claim.targets:
                if fits_part(target.qualname.partition(".")[0], name) and any(map(target.wants_module, claim.main)):
                    try:
                        planned += [(target, one) for one in members(target, module) if one.top == name]
                    except Refused:  # something else of that name, which may be bound anew
                        pass
            self._install(claim, planned, "__main__")

    # --- wrapping -----------------------------------------------------------------------------------------------

    def _install(self, claim: Claim, planned: list[tuple[Target, Member]], begin_at: str | None) -> list[Problem]:
        problems = []
        known = {id(one.put): one for one in self.wrapped.values()}
        functions = {id(one.raw): one for one in self.wrapped.values() if one.is_of_module}
        swaps = []
        for target, member in planned:
            one = known.get(id(member.raw))
            if one is not None and member.is_inherited:  # this class gets a wrapper of its own around the function
                member, one = member._replace(raw=one.raw), None
            if one is None and isinstance(member.owner, ModuleType):  # two modules' names for one function
                one = functions.get(id(member.raw))
            if one is None and is_ours(member.raw):
                continue  # decorated with @flow or @task: it has its span
            if one is None:
                try:
                    one = self._wrap(claim.make, target, member)
                except Exception as error:  # a metaclass that refuses, paths that do not fit
                    problems.append(Problem(target.place, f"{target}: {error}"))
                    continue
                if one.is_of_module:
                    functions[id(one.raw)] = one
                    swaps.append((one.raw, one.put))
            one.claims.add(claim)
            claim.matches[target] = claim.matches.get(target, 0) + 1
        rebind(swaps, begin_at)
        return problems

    def _wrap(self, make: Make, target: Target, member: Member) -> _Wrapped:
        call, stop = make(target, member.function)
        put = replacement(member, call)
        one = _Wrapped(member, put, stop)
        try:
            setattr(member.owner, member.name, put)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{member.shown} cannot be replaced: {error}") from error
        self.wrapped[id(member.owner), member.name] = one
        return one


def _plan(
    claim: Claim, modules: dict[str, ModuleType], imported: str | None = None
) -> tuple[list[tuple[Target, Member]], list[Problem]]:
    """What the targets match in these modules, of which one may have been ``imported`` just now, and what is wrong."""
    planned: list[tuple[Target, Member]] = []
    problems = []
    for target in claim.targets:
        if target.names_module:
            wanted = [modules[target.module]] if target.module in modules else []
        else:
            wanted = [module for name, module in modules.items() if target.wants_module(name)]
        try:
            found = [member for module in wanted for member in members(target, module)]
        except Refused as why:
            late = any(_is_half_way(module) for module in wanted if module.__name__ != imported)
            hint = " (its import is not over: call instrument() when it is)" if late else ""
            problems.append(Problem(target.place, f"{target}: {why}{hint}"))
            continue
        total = claim.matches.get(target, 0) + len(found)
        if total > target.limit:
            problems.append(Problem(target.place, _too_many(target, total)))
        else:
            planned += [(target, member) for member in found]
    return planned, problems


def _too_many(target: Target, total: int) -> str:
    return (
        f"{target} matches {total} functions, more than its limit of {target.limit}: nothing more of it is "
        f"instrumented. Narrow it, use exclude, or set limit = {total}."
    )


_lock: threading.RLock
_registry = _Registry()


def _new_lock() -> None:
    """A lock that a thread of the parent held at a fork would stay shut."""
    global _lock
    _lock = threading.RLock()


_new_lock()
after_fork_in_child(_new_lock)


def enter(claim: Claim, *, strict: bool) -> list[Problem]:
    """Instrument what ``claim`` asks for. Returns what cannot be; with ``strict``, nothing is done then."""
    _wait_for_imports(claim)
    with _lock:
        problems = _registry.add(claim)
        if strict and problems:
            _registry.remove(claim)
        return problems


def _wait_for_imports(claim: Claim) -> None:
    """Modules that another thread is importing are there when that is done; Python's import lock tells when. What this
    thread itself is importing it cannot wait for: importlib knows the difference."""
    for name, module in list(sys.modules.items()):
        if _is_half_way(module) and any(target.wants_module(name) for target in claim.targets):
            try:
                importlib.import_module(name)
            except Exception:  # it failed: that is told where it is imported
                pass


def _is_half_way(module: Any) -> bool:
    """Whether a module is being imported right now."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def define(module: ModuleType, name: str) -> None:
    """To be called when a program binds a name at its top level, at once: it may be called in the next line."""
    with _lock:
        _registry.define(module, name)


def withdraw(claim: Claim) -> None:
    """Make bare again what only ``claim`` asked for."""
    with _lock:
        if claim in _registry.claims:
            _registry.remove(claim)


def instrumented_now(claim: Claim) -> list[str]:
    """The functions that are wrapped for ``claim``, sorted."""
    with _lock:
        return sorted(one.shown for one in _registry.wrapped.values() if claim in one.claims)
