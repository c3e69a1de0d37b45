"""Convert captured runs to plain data for snapshots. The data is the same each time the test runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otelflow._values.attribute import to_json
from otelflow.testing._deterministic import stable_text

__all__ = ["as_dict"]


def as_dict(run: Any) -> dict[str, Any]:
    """Return a run and all below it as a dict, without ids and times.

    It has names, statuses, errors, attributes, messages, artifacts, results and events.
    """
    run._mark_inspected()
    failure = run._failure()
    return {
        "name": run.name,
        "kind": run.kind,
        "status": run._status(),
        "error": None if failure is None else stable_text(str(failure)),
        "attributes": _plain(run.span.attributes),
        "messages": [f"{message.severity} {stable_text(message.text)}" for message in run.messages],
        "artifacts": [_artifact(artifact) for artifact in run.artifacts],
        "results": [{"key": result.key, "description": result.description} for result in run.results],
        "events": [
            {"name": event.name, "attributes": _plain(event.attributes)}
            for event in run.events
            if not event.name.startswith("otelflow.")  # those are the messages, artifacts and results
        ],
        "children": [as_dict(child) for child in run.children],
    }


def _artifact(artifact: Any) -> dict[str, Any]:
    data = stable_text(to_json(artifact.data).text)
    return {"key": artifact.key, "type": artifact.type, "description": artifact.description, "data": data}


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    pairs = sorted((attributes or {}).items())
    return {key: _stable(value) for key, value in pairs if not key.endswith("run_id")}


def _stable(value: Any) -> Any:
    if isinstance(value, str):
        return stable_text(value)
    return list(value) if isinstance(value, tuple) else value
