"""Test injection: by name, by type, and of dependencies; the caller's own arguments win."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otelflow import Flow, FlowRunConfig, Task, flow, task

if TYPE_CHECKING:
    from decimal import Decimal


class Database:
    """A dependency with a class of its own."""


@task
def by_type(run: Flow[Any], step: Task | None = None, other: Task | None = None) -> tuple[Any, Any, Any]:
    return run, step, other


def test_parameters_annotated_with_flow_or_task_are_injected() -> None:
    """Under any name, also as Optional, and also without a default."""

    @flow
    def typed(myself: Flow[Any] | None = None) -> Any:
        return myself, by_type()  # type: ignore[call-arg]

    run = typed().execute()
    myself, (injected_flow, step, other) = run.return_value  # type: ignore[misc]
    assert myself is injected_flow is run
    assert step is other is run.tasks[0]


class Mine(Flow[Any]):
    """The user's own subclass of Flow."""


def test_parameters_annotated_with_a_subclass_are_injected() -> None:
    """An annotation with a subclass of Flow works like one with Flow."""

    @task
    def asks(mine: Mine | None = None) -> Any:
        return mine

    @flow(cls=Mine)
    def runs() -> Any:
        return asks()

    run = runs().execute()
    assert run.return_value is run


def test_dependencies_by_name_and_by_type() -> None:
    """A flow's dependencies are injected into the flow and its tasks: by name, or by type if only one has that type."""
    database = Database()

    @task
    def asks(db: Any = None, store: Database | None = None, unknown: int = 3) -> tuple[Any, Any, int]:
        return db, store, unknown

    @flow(dependencies={"db": database, "limit": 5})
    def depends(limit: int = 0) -> Any:
        return limit, asks()

    assert depends().execute().return_value == (5, (database, database, 3))


def test_two_dependencies_of_one_type_need_the_name() -> None:
    """Injection by type needs a unique type."""

    @task
    def asks(store: Database | None = None) -> Any:
        return store

    @flow(dependencies={"a": Database(), "b": Database()})
    def depends() -> Any:
        return asks()

    assert depends().execute().return_value is None


def test_arguments_of_the_caller_win() -> None:
    """By position and by keyword, for every kind of injection."""

    @task
    def asks(this_flow: Any = None, flow_data: Any = None, db: Any = None) -> tuple[Any, Any, Any]:
        return this_flow, flow_data, db

    @flow(dependencies={"db": "injected"})
    def passes() -> Any:
        return asks("mine", flow_data=None, db="given")

    assert passes().execute().return_value == ("mine", None, "given")


def test_methods_keyword_only_and_positional_only_parameters() -> None:
    """self is not counted; keyword-only parameters are injected; positional-only ones cannot be."""

    class Service:
        @task
        def method(self, x: int, this_task: Any = None) -> tuple[int, Any]:
            return x, this_task.name

        @classmethod
        @task
        def of_class(cls, x: int, this_task: Any = None) -> tuple[int, Any]:
            return x, this_task.name

    @task
    def keywords(*args: int, this_task: Any, **more: int) -> Any:
        return args, this_task.name, more

    @task
    def positional(this_task: Any = None, /) -> Any:
        return this_task

    assert Service().method(1) == Service.method(Service(), 1) == (1, "method")
    assert Service.of_class(1) == (1, "of_class")
    assert keywords(1, 2, z=3) == ((1, 2), "keywords", {"z": 3})  # type: ignore[call-arg]
    assert positional() is None


def test_outside_a_flow_nothing_is_injected() -> None:
    """The default stays; without a default, Python's own TypeError names the parameter."""

    @task
    def with_default(this_flow: Any = "none", flow_data: Any = None) -> Any:
        return this_flow, flow_data

    @task
    def without(this_flow: Any) -> Any:
        return this_flow

    assert with_default() == ("none", None)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'this_flow'"):
        without()


def test_annotations_that_cannot_be_resolved() -> None:
    """A name that exists for type checkers only breaks neither the call nor injection by name."""

    @task
    def odd(amount: Decimal | None = None, this_task: Any = None) -> Any:
        return amount, this_task.name

    assert odd() == (None, "odd")


def test_flow_and_task_may_be_imported_for_type_checkers_only() -> None:
    """``Flow`` and ``Task`` in an annotation work if the module does not have them at run time."""
    names: dict[str, Any] = {"task": task}
    source = "@task\ndef asks(mine: 'Task | None' = None, amount: 'Decimal' = 0): return mine"
    exec(compile(source, "user.py", "exec", dont_inherit=True), names)
    assert names["asks"]().name == "asks"


def test_the_plan_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is read once a function, not once a call."""
    from otelflow._runs import definition

    calls: list[Any] = []
    original = definition.plan_for
    monkeypatch.setattr(definition, "plan_for", lambda *args: calls.append(args) or original(*args))

    @task
    def step(this_task: Any = None) -> None:
        pass

    @flow(flow_config=FlowRunConfig(capture_output=False))
    def steps() -> None:
        for _ in range(5):
            step()

    steps().execute()
    assert len(calls) == 2
