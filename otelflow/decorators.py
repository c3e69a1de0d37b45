"""``@flow`` and ``@task``: bare or with arguments, on any kind of callable."""

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


class _MakesFlows(Protocol):
    """``@flow(...)`` before it has its function: the function's calls prepare flows."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Flow[R]]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, Flow[R]]: ...


class _KeepsType(Protocol):
    """A decorator that gives back what it got, as far as types go."""

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
) -> _KeepsType: ...


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
) -> _MakesFlows: ...


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

    Deferred (the default), a call prepares a :class:`Flow`: ``my_flow(1).execute()``, or ``await my_flow(1)``.
    With ``transparent=True`` a call runs the function and returns its own value.

    name: of the flow and its span; the function's name where it is left out.
    flow_config: see :class:`otelflow.FlowRunConfig`.
    new_trace: begin a trace of its own, linked both ways with the span that is current at the call.
    attributes: for the span at its start. Values other than bool, int, float, str and lists of these become JSON text.
    dependencies: values to inject into the flow and its tasks, by parameter name, or by type where it is unique.
    cls: a subclass of :class:`Flow` to make instead.

    Raises :class:`otelflow.errors.ArgumentError` for an argument that it does not know.
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
        made = cls._made(wrapped, args, kwargs)
        made._prepare(spec, wrapped, args, kwargs, instance is not None)
        return made

    return prepare


def _transparent_flow(spec: Definition, cls: type[Flow[Any]]) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = cls._made(wrapped, (), {})
        made._prepare(spec, wrapped, (), {}, False)
        made._transparent = True
        shape = made._shape()
        return DRIVER_FOR[shape](made, body_with_hooks(made, wrapped, shape), args, kwargs, instance is not None)

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
) -> _KeepsType: ...


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
    """Make each call of a function a task: a span below the flow, or below whatever span is current.

    The function keeps its signature, its value and its exceptions.

    name: of the task and its span; the function's name where it is left out.
    raise_on_error: when False, an exception ends the task and not the flow: the call returns None.
    attributes: for the span at its start. Values other than bool, int, float, str and lists of these become JSON text.
    cls: a subclass of :class:`Task` to make instead.

    Raises :class:`otelflow.errors.ArgumentError` for an argument that it does not know.
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
        made = cls._made(wrapped, (), {})
        made._prepare(spec, wrapped, (), {}, False)
        shape = made._shape()
        return DRIVER_FOR[shape](made, body_with_hooks(made, wrapped, shape), args, kwargs, instance is not None)

    return copy_name(call, spec)


def _check_class(where: str, cls: object, base: type) -> None:
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise ArgumentError(f"{where}(cls={cls!r}): use a subclass of {base.__name__}.")


def _check_callable(where: str, target: object) -> None:
    if not callable(target) and not isinstance(target, classmethod | staticmethod):
        raise ArgumentError(f"{where} was given {target!r}, which cannot be called. Use it on a function or callable.")
