"""Hold the facts about one decorated function, computed once, so that a call does not compute them again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from otelflow import attributes as wire
from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runs.injection import NAMES, NO_PLAN, InjectionPlan, plan_for
from otelflow._runtime.names import function_name, target_name
from otelflow._spans.span_limits import MAX_EVENT_BYTES, estimated_size, truncate_attributes
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import take_redacted_count
from otelflow._values.text import scrub_and_truncate, scrub_long
from otelflow.config import FlowRunConfig
from otelflow.errors import ArgumentError

__all__ = ["Definition"]


class Definition:
    """The facts about one decorated function that do not depend on a call: name, kind, attributes, injection plan."""

    __slots__ = (
        "_flow_class",
        "_task_class",
        "attributes",
        "binds",
        "callable_kind",
        "config",
        "dependencies",
        "is_named",
        "kind",
        "name",
        "needs_injection",
        "new_trace",
        "plan",
        "raise_on_error",
        "source",
        "target",
        "wire_name",
    )

    def __init__(
        self,
        kind: str,
        target: Any,
        *,
        flow_class: type,
        task_class: type,
        name: str | None = None,
        config: FlowRunConfig | None = None,
        raise_on_error: bool = True,
        new_trace: bool = False,
        attributes: Mapping[str, Any] | None = None,
        dependencies: Mapping[str, Any] | None = None,
        injects: bool = True,
    ) -> None:
        self.kind = kind
        self.target = target
        self.is_named = name is not None
        self.name = scrub_long(_check_name(kind, name) or target_name(target))
        self.wire_name, _ = scrub_and_truncate(self.name)
        self.source = function_name(target)
        self.callable_kind: CallableKind = kind_of(target)
        self.config = config
        self.raise_on_error = raise_on_error
        self.new_trace = new_trace
        self.dependencies = _check_dependencies(dependencies)
        self.binds = inspect.isfunction(target) or isinstance(target, classmethod)
        """True if the signature names a first parameter (self, cls) that a bound call does not pass."""
        self.attributes = self._static_attributes(kind, attributes)
        self._flow_class, self._task_class = flow_class, task_class
        self.plan: InjectionPlan | None = None if injects else NO_PLAN
        self.needs_injection = injects
        """True if the function itself has injected parameters, and until its plan exists."""

    def _static_attributes(self, kind: str, user_attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        take_redacted_count()
        name = wire.TASK_NAME if kind == "task" else wire.FLOW_NAME
        attributes: dict[str, Any] = {
            wire.KIND: kind,
            name: self.wire_name,
            wire.CODE_FUNCTION_NAME: scrub_and_truncate(self.source)[0],
        }
        for key, value in (user_attributes or {}).items():
            if not isinstance(key, str) or not key:
                raise ArgumentError(f"@{kind} of {self.name!r}: attribute name {key!r} is not a text. Use a str.")
            attributes[key], _ = to_attribute(key, value)
        if redacted := take_redacted_count():
            attributes[wire.REDACTED] = redacted
        if estimated_size(attributes) <= MAX_EVENT_BYTES:
            return attributes
        return truncate_attributes(attributes, MAX_EVENT_BYTES)[0]

    def make_plan(self) -> InjectionPlan:
        """Make the injection plan. This waits for the first call: annotations may use names that the module defines
        below the function."""
        function = self.target.__func__ if isinstance(self.target, classmethod) else self.target
        self.plan = plan_for(function, self._flow_class, self._task_class)
        self.needs_injection = bool(self.plan.fixed)
        return self.plan


def _check_dependencies(dependencies: object) -> dict[str, Any]:
    if dependencies is not None and not isinstance(dependencies, Mapping):
        raise ArgumentError(f"@flow(dependencies={dependencies!r}): use a dict of values by parameter name.")
    reserved = sorted(set(dependencies or ()) & set(NAMES))
    if reserved:
        raise ArgumentError(f"@flow(dependencies=...): {reserved[0]!r} is filled in by otelflow. Use another name.")
    return dict(dependencies or {})


def _check_name(kind: str, name: object) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise ArgumentError(
            f"@{kind}(name={name!r}): the name must be a text that is not empty. Use name='…' or leave it out."
        )
    return name
