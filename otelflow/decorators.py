"""Decorate functions with ``@flow`` and ``@task``: bare or with arguments, on any kind of callable."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from otelflow._runs.definition import Definition
from otelflow._runs.drivers import DRIVER_FOR, body_with_hooks, copy_name
from otelflow._runs.fast_path import make_task_call
from otelflow._runs.flow_and_task import Flow, Task
from otelflow._runs.wrapper import Wrapper, wrap
from otelflow.config import FlowRunConfig
from otelflow.errors import ArgumentError, unknown_argument

__all__ = ["flow", "task"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")
Attributes = Mapping[str, Any]


class _FlowDecorator(Protocol):
    """Type of ``@flow(...)``: a decorator of functions whose calls then return flows."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Flow[R]]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, Flow[R]]: ...


class _SameTypeDecorator(Protocol):
    """Type of a decorator that does not change the function's type."""

    def __call__(self, function: F, /) -> F: ...


@overload
def flow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Flow[R]]: ...


@overload
def flow(function: Callable[P, R], /) -> Callable[P, Flow[R]]: ...


@overload
def flow(
    *,
    transparent: Literal[True],
    name: str | None = None,
    flow_config: FlowRunConfig | None = None,
    new_trace: bool = False,
    attributes: Attributes | None = None,
    dependencies: Mapping[str, Any] | None = None,
    cls: type[Flow[Any]] = Flow,
) -> _SameTypeDecorator: ...


@overload
def flow(
    *,
    name: str | None = None,
    flow_config: FlowRunConfig | None = None,
    transparent: Literal[False] = False,
    new_trace: bool = False,
    attributes: Attributes | None = None,
    dependencies: Mapping[str, Any] | None = None,
    cls: type[Flow[Any]] = Flow,
) -> _FlowDecorator: ...


def flow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    flow_config: FlowRunConfig | None = None,
    transparent: bool = False,
    new_trace: bool = False,
    attributes: Attributes | None = None,
    dependencies: Mapping[str, Any] | None = None,
    cls: type[Flow[Any]] = Flow,
    **unknown: Any,
) -> Any:
    """Make each run of a function a flow: a span with the tasks below it.

    By default a call prepares a :class:`Flow`: run it with ``my_flow(1).execute()`` or ``await my_flow(1)``.
    With ``transparent=True`` a call runs the function and returns the function's value.

    Args:
        function: the function, or any callable; None if the decorator has arguments.
        name: name of the flow and its span; the function's name if left out.
        flow_config: how the flow behaves: see :class:`otelflow.FlowRunConfig`.
        transparent: True to run the function at the call.
        new_trace: True to start a new trace, linked both ways with the span that is current at the call.
        attributes: attributes of the span from its start. Values other than bool, int, float, str and lists of these
            become JSON text.
        dependencies: values to inject into the flow and its tasks, by parameter name, or by type if it is unique.
        cls: a subclass of :class:`Flow` to create instead.

    Returns:
        The decorated function; without ``function``, a decorator.

    Raises:
        ArgumentError: an argument is unknown, or has a value of the wrong kind.
    """
    if unknown:
        raise unknown_argument("@flow", unknown, flow.__kwdefaults__ or ())
    _check_class("@flow", cls, Flow)
    if flow_config is not None and not all(hasattr(flow_config, field) for field in FlowRunConfig.__dataclass_fields__):
        raise ArgumentError(f"@flow(flow_config={flow_config!r}): use a FlowRunConfig.")

    def decorate(target: Any) -> Any:
        _check_callable("@flow", target)
        spec = Definition(
            "flow",
            target,
            flow_class=Flow,
            task_class=Task,
            name=name,
            config=flow_config,
            new_trace=new_trace,
            attributes=attributes,
            dependencies=dependencies,
        )
        return Wrapper(target, _transparent_flow(spec, cls) if transparent else _deferred_flow(spec, cls))

    return decorate if function is None else decorate(function)


def _deferred_flow(spec: Definition, cls: type[Flow[Any]]) -> Callable[..., Any]:
    def prepare(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Any]:
        run = cls._create(wrapped, args, kwargs)
        run._prepare(spec, wrapped, args, kwargs, instance is not None)
        return run

    return prepare


def _transparent_flow(spec: Definition, cls: type[Flow[Any]]) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = cls._create(wrapped, (), {})
        run._prepare(spec, wrapped, (), {}, False)
        run._transparent = True
        callable_kind = run._callable_kind()
        return DRIVER_FOR[callable_kind](
            run, body_with_hooks(run, wrapped, callable_kind), args, kwargs, instance is not None
        )

    return copy_name(call, spec)


@overload
def task(function: F, /) -> F: ...


@overload
def task(
    *,
    name: str | None = None,
    raise_on_error: bool = True,
    attributes: Attributes | None = None,
    cls: type[Task] = Task,
) -> _SameTypeDecorator: ...


def task(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    raise_on_error: bool = True,
    attributes: Attributes | None = None,
    cls: type[Task] = Task,
    **unknown: Any,
) -> Any:
    """Make each call of a function a task: a span whose parent is the current span.

    The function keeps its signature, its value and its exceptions.

    Args:
        function: the function, or any callable; None if the decorator has arguments.
        name: name of the task and its span; the function's name if left out.
        raise_on_error: False if an exception shall end only the task: the call then returns None.
        attributes: attributes of the span from its start. Values other than bool, int, float, str and lists of these
            become JSON text.
        cls: a subclass of :class:`Task` to create instead.

    Returns:
        The decorated function; without ``function``, a decorator.

    Raises:
        ArgumentError: an argument is unknown, or has a value of the wrong kind.
    """
    if unknown:
        raise unknown_argument("@task", unknown, task.__kwdefaults__ or ())
    _check_class("@task", cls, Task)

    def decorate(target: Any) -> Any:
        _check_callable("@task", target)
        spec = Definition(
            "task",
            target,
            flow_class=Flow,
            task_class=Task,
            name=name,
            raise_on_error=raise_on_error,
            attributes=attributes,
        )
        return wrap(target, make_task_call(spec) if cls is Task else _custom_task(spec, cls))

    return decorate if function is None else decorate(function)


def _custom_task(spec: Definition, cls: type[Task]) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = cls._create(wrapped, (), {})
        run._prepare(spec, wrapped, (), {}, False)
        callable_kind = run._callable_kind()
        return DRIVER_FOR[callable_kind](
            run, body_with_hooks(run, wrapped, callable_kind), args, kwargs, instance is not None
        )

    return copy_name(call, spec)


def _check_class(where: str, cls: object, base: type) -> None:
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise ArgumentError(f"{where}(cls={cls!r}): use a subclass of {base.__name__}.")


def _check_callable(where: str, target: object) -> None:
    if not callable(target) and not isinstance(target, classmethod | staticmethod):
        raise ArgumentError(f"{where} needs a callable; got {target!r}. Use it on a function or another callable.")
