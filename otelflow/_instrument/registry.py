"""Everything that is instrumented in this process: which functions, for whom, and how it is taken back."""

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
    find_matches,
    is_ours,
    namespace,
    replacement,
    through_super,
)
from otelflow._instrument.rebinding import held, rebind
from otelflow._instrument.targets import Problem, Target, fits_part
from otelflow._instrument.wrapped_call import Stop, instrumented
from otelflow._runtime.fork import FreshLock
from otelflow._runtime.log_once import log_once

__all__ = ["Registration", "define", "instrumented_functions", "register", "unregister"]

_logger = logging.getLogger("otelflow")
Make = Callable[[Target, Any], "tuple[Any, Stop]"]
"""Makes what a wrapper around a function calls, and how that is switched off."""
Swap = tuple[Any, Any]
"""A function, and what stands in its place now."""


class Registration:
    """The targets of one ``instrument()``, and what was found for each."""

    def __init__(self, targets: Iterable[Target], main: tuple[str, ...] = (), make: Make = instrumented) -> None:
        self.targets = list(targets)
        self.make = make
        self.main = main
        """The names of the module that is about to run as a program; empty where that is on its way already."""
        self.matches: dict[Target, dict[str, int]] = {}
        """How many functions each target matched, by module: a reload does not add to them."""
        self.told: set[str] = set()
        """Problems of modules that were imported later, each said once."""


class _Wrapped:
    """One member that is wrapped, as long as somebody claims it."""

    def __init__(self, member: Match, put: Any, stop: Stop) -> None:
        self._owner = weakref.ref(member.owner)  # a class may be gone before it is undone: after a reload
        self.is_of_module = isinstance(member.owner, ModuleType)
        self.name, self.raw, self.is_inherited = member.name, member.raw, member.is_inherited
        self.put, self.stop, self.shown = put, stop, member.shown
        self.claims: set[Registration] = set()

    def is_gone_from(self, module: ModuleType) -> bool:
        """Whether the module was run again, and has something else in its place now."""
        owner = self._owner()
        if owner is None:
            return True
        is_of = owner is module or (not self.is_of_module and owner.__module__ == module.__name__)
        return is_of and not self.is_in_place

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
        try:
            if self.is_inherited:
                delattr(owner, self.name)
            else:
                setattr(owner, self.name, self.raw)
        except Exception:  # a metaclass that has come to refuse: it stays, and makes no span
            log_once(f"undo {self.shown}", "%s cannot be put back; it makes no spans any more.", self.shown)


class _Registry:
    def __init__(self) -> None:
        self.claims: list[Registration] = []
        self.wrapped: dict[tuple[int, str], _Wrapped] = {}
        self.replaced: list[_Wrapped] = []
        """What a reload put something new in the place of, and another module still holds."""
        self._hook = ImportHook(self._wants, self._imported)
        self._by_put: dict[int, _Wrapped] = {}
        self._by_function: dict[int, _Wrapped] = {}
        """Functions of modules, by what stood there."""
        self._imports: set[str] = set()
        self._exact: set[str] = set()
        self._patterns: list[Target] = []

    # --- claims -------------------------------------------------------------------------------------------------

    def add(self, claim: Registration) -> list[Problem]:
        """Wrap what is imported already, and watch for the rest. Returns what cannot be wrapped."""
        modules = {name: one for name, one in list(sys.modules.items()) if issubclass(type(one), ModuleType)}
        if claim.main:
            del modules["__main__"]
        planned, problems = _plan(claim, modules)
        self.claims.append(claim)
        self._watch()
        more, swaps = self._install(claim, planned)
        rebind(swaps)
        return problems + more

    def remove(self, claim: Registration) -> None:
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
        self._index()
        if not self.claims:
            self._imports.clear()

    def _index(self) -> None:
        self._by_put = {id(one.put): one for one in self.wrapped.values()}
        self._by_function = {id(one.raw): one for one in self.wrapped.values() if one.is_of_module}

    def close(self) -> None:
        """Forget everything."""
        self._hook.remove()
        self.claims.clear()
        self.replaced.clear()
        for kept in (self.wrapped, self._by_put, self._by_function):
            kept.clear()

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
            if module.__name__ in self._imports:
                self._forget_replaced(module)
            self._imports.add(module.__name__)
            for claim in self.claims:
                planned, problems = _plan(claim, {module.__name__: module}, module.__name__)
                more, swaps = self._install(claim, planned)
                rebind(swaps, module.__name__)
                for problem in problems + more:
                    if str(problem) not in claim.told:
                        claim.told.add(str(problem))
                        _logger.warning("not instrumented: %s", problem)

    def _forget_replaced(self, module: ModuleType) -> None:
        """After a reload: what is neither in its place nor held by another module is of no use."""
        gone = {key: one for key, one in self.wrapped.items() if one.is_gone_from(module)}
        if gone or self.replaced:
            self.wrapped = {key: one for key, one in self.wrapped.items() if key not in gone}
            candidates = [*self.replaced, *gone.values()]
            still = held(one.put for one in candidates)
            self.replaced = [one for one in candidates if id(one.put) in still]
            self._index()

    def define(self, module: ModuleType, name: str) -> None:
        """A program bound a name: wrap what it stands for, where a target wants that."""
        for claim in self.claims:
            planned = []
            for target in claim.targets:
                if fits_part(target.qualname.partition(".")[0], name) and any(map(target.wants_module, claim.main)):
                    try:
                        planned += [(target, one) for one in find_matches(target, module, name)]
                    except NotInstrumentable:  # something else of that name, which may be bound anew
                        pass
            self._install(claim, planned)

    # --- wrapping -----------------------------------------------------------------------------------------------

    def _install(self, claim: Registration, planned: list[tuple[Target, Match]]) -> tuple[list[Problem], list[Swap]]:
        """Wrap what is planned; returns what could not be, and what stands for what now."""
        problems: list[Problem] = []
        swaps: list[Swap] = []
        for target, member in planned:
            one = self._known(member)
            if one is None:
                bare = self._bare(member)
                if bare is None:
                    continue  # decorated with @flow or @task: it has its span
                try:
                    one = self._wrap(claim.make, target, bare)
                except Exception as error:  # a metaclass that refuses, paths that do not fit
                    if target.is_exact or isinstance(error, ValueError):
                        problems.append(Problem(target.place, f"{target}: {error}"))
                    continue
                if one.is_of_module:
                    swaps.append((one.raw, one.put))
            one.claims.add(claim)
            counted = claim.matches.setdefault(target, {})
            counted[member.module] = counted.get(member.module, 0) + 1
        return problems, swaps

    def _known(self, member: Match) -> _Wrapped | None:
        """What is wrapped in the member's place already: by another target, another claim, or under another name."""
        one = self.wrapped.get((id(member.owner), member.name))
        if one is not None and one.is_in_place:
            return one
        if not member.is_inherited and id(member.raw) in self._by_put:
            return self._by_put[id(member.raw)]
        return self._by_function.get(id(member.raw)) if issubclass(type(member.owner), ModuleType) else None

    def _bare(self, member: Match) -> Match | None:
        """The member as it is without us; None where it is decorated."""
        if not is_ours(member.raw):
            return member
        one = self._by_put.get(id(member.raw))
        if one is not None:  # inherited from a class that is wrapped: this one gets a wrapper of its own
            return member._replace(raw=one.raw)
        stopped = getattr(getattr(member.raw, "_self_wrapper", None), "bare", None)  # one that could not be taken away
        return None if stopped is None else member._replace(raw=stopped)

    def _wrap(self, make: Make, target: Target, member: Match) -> _Wrapped:
        call, stop = make(target, member.function)
        if member.is_inherited:
            call = through_super(member, call)
        call.bare = member.raw
        put = replacement(member, call)
        one = _Wrapped(member, put, stop)
        try:
            setattr(member.owner, member.name, put)
        except (TypeError, AttributeError) as error:
            raise TypeError(f"{member.shown} cannot be replaced: {error}") from error
        self.wrapped[id(member.owner), member.name] = self._by_put[id(put)] = one
        if one.is_of_module:
            self._by_function[id(one.raw)] = one
        return one


def _plan(
    claim: Registration, modules: dict[str, ModuleType], imported: str | None = None
) -> tuple[list[tuple[Target, Match]], list[Problem]]:
    """What the targets match in these modules, of which one may have been ``imported`` just now, and what is wrong."""
    planned: list[tuple[Target, Match]] = []
    problems = []
    for target in claim.targets:
        if target.names_module:
            wanted = [modules[target.module]] if target.module in modules else []
        else:
            wanted = [module for name, module in modules.items() if target.wants_module(name)]
        try:
            found = [member for module in wanted for member in find_matches(target, module)]
        except NotInstrumentable as why:
            late = any(_is_half_way(module) for module in wanted if module.__name__ != imported)
            hint = " (its import is not over: call instrument() when it is)" if late else ""
            problems.append(Problem(target.place, f"{target}: {why}{hint}"))
            continue
        before = claim.matches.get(target, {})
        total = len(found) + sum(number for name, number in before.items() if name not in modules)
        if total > target.limit:
            problems.append(Problem(target.place, _too_many(target, total)))
        else:
            planned += [(target, member) for member in found]
            before.update(dict.fromkeys(modules.keys() & before.keys(), 0))
    return planned, problems


def _too_many(target: Target, total: int) -> str:
    return (
        f"{target} matches {total} functions, more than its limit of {target.limit}: nothing more of it is "
        f"instrumented. Narrow it, use exclude, or set limit = {total}."
    )


_lock = FreshLock()
_registry = _Registry()


def _forget_all() -> None:
    """At exit: what is wrapped stays so, and nothing is held any more. Else objects that modules hold would not be
    destroyed as they are without us: a file that only that closes would end half way."""
    with _lock:
        _registry.close()


atexit.register(_forget_all)


def register(claim: Registration, *, strict: bool) -> list[Problem]:
    """Instrument what ``claim`` asks for. Returns what cannot be; with ``strict``, nothing is done then."""
    _wait_for_imports(claim)
    with _lock:
        problems = _registry.add(claim)
        if strict and problems:
            _registry.remove(claim)
        return problems


def _wait_for_imports(claim: Registration) -> None:
    """Modules that another thread is importing are there when that is done; Python's import lock tells when. What this
    thread itself is importing it cannot wait for: importlib knows the difference. Not for ever: whoever imports may
    wait for this thread."""
    names = [name for name in list(sys.modules) if any(target.wants_module(name) for target in claim.targets)]
    for name in names:
        if _is_half_way(sys.modules.get(name)):
            waiting = threading.Thread(target=_import, args=(name,), daemon=True)
            waiting.start()
            waiting.join(_PATIENCE_SECONDS)


_PATIENCE_SECONDS = 3


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # it failed: that is told where it is imported
        pass


def _is_half_way(module: Any) -> bool:
    """Whether a module is being imported right now."""
    if not issubclass(type(module), ModuleType):
        return False
    return bool(getattr(namespace(module).get("__spec__"), "_initializing", False))


def define(module: ModuleType, name: str) -> None:
    """To be called when a program binds a name at its top level, at once: it may be called in the next line."""
    try:
        with _lock:
            _registry.define(module, name)
    except Exception:
        log_once(f"define {name}", "Instrumenting %s of the program failed; it goes on.", name, exc_info=True)


def unregister(claim: Registration) -> None:
    """Make bare again what only ``claim`` asked for."""
    with _lock:
        if claim in _registry.claims:
            _registry.remove(claim)


def instrumented_functions(claim: Registration) -> list[str]:
    """The functions that are wrapped for ``claim``, sorted."""
    with _lock:
        return sorted(one.shown for one in _registry.wrapped.values() if claim in one.claims)
