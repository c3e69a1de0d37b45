"""Wrap a decorated function: the callable that takes its place is a wrapt proxy that can be pickled and copied."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import wrapt

__all__ = ["BoundWrapper", "FunctionWrapper", "Wrapper", "extend_cloudpickle", "wrap"]

Wrap = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""A function that wrapt calls with the function, its object (None for a plain function), and the arguments."""


def _by_name(module: str, qualname: str) -> Any:
    """Return the object that is named ``module:qualname`` now. Unpickling a decorated function calls this."""
    value: Any = importlib.import_module(module)
    for part in qualname.split("."):
        value = getattr(value, part)
    return value


def _importable_name(wrapper: Any) -> tuple[str, str]:
    """Return the module and name under which ``wrapper`` can be imported: its own name, or another in its module.

    Raises PicklingError if there is none, as pickle does for plain functions. The process that reads such a pickle
    would find another function under that name, or none.
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
    from pickle import PicklingError  # 1.5 ms, a twentieth of our import; a caller that pickles has loaded it

    raise PicklingError(
        f"Can't pickle {module}.{qualname}: its module does not have it under that name. Define it at the top level of "
        "the module, not inside a function, or use an executor that pickles by value (loky, Dask)."
    )


class BoundWrapper(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg,unused-ignore]  # generic in its stubs only
    """A decorated method, bound to one object."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 2 and not kwargs:  # as weakref.WeakMethod makes a method anew: of its function and its object
            function, instance = args
            return types.MethodType(getattr(type(instance), function.__name__, function), instance)
        return super().__new__(cls, *args, **kwargs)

    def __reduce__(self) -> Any:
        if self._self_instance is None:  # a class method or static method below the decorator
            return _by_name, (self.__module__, self.__qualname__)
        return getattr, (self._self_instance, self.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Wrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg,unused-ignore]
    """A decorated function: :mod:`inspect` sees the function's own name, signature and kind.

    wrapt's own proxies refuse to be pickled or copied (wrapt issue 158), so they could not go to process pools. This
    one behaves like a plain function: it is pickled by name, and a copy of it is the object itself.
    """

    __bound_function_wrapper__ = BoundWrapper
    __slots__ = ("__call__",)
    """A slot for the function that a call of this object runs; methods use wrapt's binding. wrapt's own ``__call__``
    looks for a ``__self__`` at each call, which a function does not have. A method of this class would read fields of a
    proxy, which forwards every name. With a function in this slot, a task without an SDK takes a fifth less time."""

    def __init__(self, wrapped: Any, wrapper: Wrap) -> None:
        super().__init__(wrapped, wrapper)
        _set_call(self, _direct_call(wrapped, wrapper))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "__wrapped__":
            _set_call(self, _direct_call(value, self._self_wrapper))  # type: ignore[arg-type,unused-ignore]  # its stubs

    def __reduce__(self) -> Any:
        return _by_name, _importable_name(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self


_set_call: Any = Wrapper.__dict__["__call__"].__set__


def _direct_call(wrapped: Any, wrapper: Wrap) -> Callable[..., Any]:
    """Return a function that calls ``wrapper`` for a call of ``wrapped``; the faster one if ``wrapper`` can make it."""
    make_call = getattr(wrapper, "make_call", None)
    if make_call is not None:
        return make_call(wrapped)  # type: ignore[no-any-return]
    return lambda *args, **kwargs: wrapper(wrapped, None, args, kwargs)


class FunctionWrapper(Wrapper):
    """A decorated function that is called without wrapt's binding. In a class, it binds as a plain function does."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return Python's own bound method. wrapt's costs a quarter of a task, and is no :class:`MethodType`."""
        return self if instance is None else types.MethodType(self, instance)


def wrap(wrapped: Any, wrapper: Wrap) -> Wrapper:
    """Return the wrapper that takes the place of ``wrapped``, and calls ``wrapper``."""
    kind = FunctionWrapper if hasattr(wrapper, "make_call") else Wrapper
    return kind(wrapped, wrapper)


def extend_cloudpickle() -> None:
    """Extend cloudpickle, if it is loaded, so that functions it pickles by value stay decorated.

    These are functions of ``__main__``, functions inside functions, and those of modules registered for it. So the
    tasks of scripts and notebooks reach the workers of Dask and loky. cloudpickle takes a wrapt proxy for a plain
    function, before it looks for the object's own reducer. So this overrides the reducer, for our objects only.
    """
    cloudpickle = sys.modules.get("cloudpickle")
    pickler: Any = getattr(cloudpickle, "Pickler", None)
    original = getattr(pickler, "reducer_override", None)
    if original is None or original.__module__ == __name__:
        return

    def reducer_override(self: Any, value: Any) -> Any:
        if issubclass(type(value), Wrapper) and _is_pickled_by_value(value, cloudpickle):
            return wrap, (value.__wrapped__, value._self_wrapper)
        return original(self, value)

    pickler.reducer_override = reducer_override


def _is_pickled_by_value(wrapper: Wrapper, cloudpickle: Any) -> bool:
    if wrapper.__module__ == "__main__" or "<locals>" in wrapper.__qualname__:
        return True
    registered: set[str] = getattr(cloudpickle, "list_registry_pickle_by_value", set)()
    return any(wrapper.__module__ == name or wrapper.__module__.startswith(f"{name}.") for name in registered)
