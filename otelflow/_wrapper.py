"""The callable that a decorator leaves in a function's place: a wrapt proxy that can also be pickled and copied."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import wrapt

__all__ = ["Wrapper"]


def _by_name(module: str, qualname: str) -> Any:
    """The object that stands under ``module:qualname`` now: how a decorated function comes out of a pickle."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


class BoundWrapper(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg,unused-ignore]  # generic in its stubs only
    """A decorated method of one object."""

    def __reduce__(self) -> Any:
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

    def __init__(self, wrapped: Any, wrapper: Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__(wrapped, wrapper)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """A call of the function itself; methods go through wrapt's binding. wrapt looks for a ``__self__`` at each
        call, which a function does not have: half a microsecond, a tenth of a task without an SDK."""
        call: Any = self._self_wrapper
        return call(self.__wrapped__, None, args, kwargs)

    def __reduce__(self) -> Any:
        return _by_name, (self.__module__, self.__qualname__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self
