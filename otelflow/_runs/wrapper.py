"""The callable that a decorator leaves in a function's place: a wrapt proxy that can also be pickled and copied."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import wrapt

__all__ = ["BoundWrapper", "FunctionWrapper", "Wrapper", "teach_cloudpickle", "wrap"]

Wrap = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""What wrapt calls: the function, its object (None for a plain function), and the arguments."""


def _by_name(module: str, qualname: str) -> Any:
    """The object that stands under ``module:qualname`` now: how a decorated function comes out of a pickle."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _name_of(wrapper: Any) -> tuple[str, str]:
    """Module and name under which ``wrapper`` itself is found: its own, or another that its module gives it.

    Raises PicklingError where there is none, as pickle does for plain functions: what a pickle named would be another
    function in the process that reads it, or none.
    """
    module, qualname = wrapper.__module__, wrapper.__qualname__
    try:
        if _by_name(module, qualname) is wrapper:
            return module, qualname
        for name, value in vars(importlib.import_module(module)).items():
            if value is wrapper:
                return module, name
    except (ImportError, AttributeError):
        pass
    from pickle import PicklingError  # 1.5 ms, a twentieth of our import: whoever asks has loaded it

    raise PicklingError(
        f"Can't pickle {module}.{qualname}: it is not found under that name in its module. Define it there, and not "
        "inside a function, or use an executor that pickles by value (loky, Dask)."
    )


class BoundWrapper(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg,unused-ignore]  # generic in its stubs only
    """A decorated method of one object."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        if len(given) == 2 and not named:  # as weakref.WeakMethod makes a method anew: of its function and its object
            function, instance = given
            return types.MethodType(getattr(type(instance), function.__name__, function), instance)
        return super().__new__(cls, *given, **named)

    def __reduce__(self) -> Any:
        if self._self_instance is None:  # a class or static method, below the decorator
            return _by_name, (self.__module__, self.__qualname__)
        return getattr, (self._self_instance, self.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Wrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg,unused-ignore]
    """A decorated function: looks like the function in everything that :mod:`inspect` asks.

    wrapt's own proxies refuse to be pickled or copied (wrapt issue 158), which would shut them out of process pools:
    this one is pickled by name, as a plain function is, and copied as one, which is not at all.
    """

    __bound_function_wrapper__ = BoundWrapper
    __slots__ = ("__call__",)
    """What a call of the object itself comes to; methods go through wrapt's binding. wrapt's own way looks for a
    ``__self__`` at each call, which a function does not have, and a method of this class would have to ask for the
    fields of a proxy, which hands each name on: with a function in the place of ``__call__`` a task without an SDK
    takes a fifth less."""

    def __init__(self, wrapped: Any, wrapper: Wrap) -> None:
        super().__init__(wrapped, wrapper)
        _set_call(self, _direct(wrapped, wrapper))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "__wrapped__":
            _set_call(self, _direct(value, self._self_wrapper))  # type: ignore[arg-type,unused-ignore]  # its stubs

    def __reduce__(self) -> Any:
        return _by_name, _name_of(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


_set_call: Any = Wrapper.__dict__["__call__"].__set__


def _direct(wrapped: Any, wrapper: Wrap) -> Callable[..., Any]:
    """What calls ``wrapper`` for a call of ``wrapped``; where it says how that is done at once, just that."""
    at_once = getattr(wrapper, "at_once", None)
    if at_once is not None:
        return at_once(wrapped)  # type: ignore[no-any-return]
    return lambda *args, **kwargs: wrapper(wrapped, None, args, kwargs)


class FunctionWrapper(Wrapper):
    """A decorated function whose call is known at once: in a class, it binds as a function does."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A bound method as Python makes them: wrapt's own costs a quarter of a task, and is no :class:`MethodType`."""
        return self if instance is None else types.MethodType(self, instance)


def wrap(wrapped: Any, wrapper: Wrap) -> Wrapper:
    """What stands in the place of ``wrapped``, and calls ``wrapper``."""
    kind = FunctionWrapper if hasattr(wrapper, "at_once") else Wrapper
    return kind(wrapped, wrapper)


def teach_cloudpickle() -> None:
    """Have cloudpickle, where it is loaded, keep the decoration of functions that it pickles by value: those of
    ``__main__``, those inside functions, and of modules registered for it. So a script's or notebook's tasks reach the
    workers of Dask and loky.

    It takes a wrapt proxy for the plain function that the proxy pretends to be, before it asks for a reducer of the
    object's own: so the question is put to it here, for our objects only.
    """
    cloudpickle = sys.modules.get("cloudpickle")
    pickler: Any = getattr(cloudpickle, "Pickler", None)
    theirs = getattr(pickler, "reducer_override", None)
    if theirs is None or theirs.__module__ == __name__:
        return

    def reducer_override(self: Any, value: Any) -> Any:
        if issubclass(type(value), Wrapper) and _goes_by_value(value, cloudpickle):
            return wrap, (value.__wrapped__, value._self_wrapper)
        return theirs(self, value)

    pickler.reducer_override = reducer_override


def _goes_by_value(wrapper: Wrapper, cloudpickle: Any) -> bool:
    if wrapper.__module__ == "__main__" or "<locals>" in wrapper.__qualname__:
        return True
    registered: set[str] = getattr(cloudpickle, "list_registry_pickle_by_value", set)()
    return any(wrapper.__module__ == name or wrapper.__module__.startswith(f"{name}.") for name in registered)
