"""Emit a run's artifacts and results: to the span, the run's memory, the history and the listeners."""

from __future__ import annotations

import logging
import os
from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import At, Emitter, history_text, notify, origin_of, truncate_counted
from otelflow._runtime import clock
from otelflow._runtime.drop_counts import VALUES, after_end_reason, counts
from otelflow._spans.span_events import add_counted_event, add_span_event, has_audience
from otelflow._spans.span_limits import estimated_size
from otelflow._values.attribute import sha256_of, simple_json, to_json
from otelflow._values.scrub import take_redacted_count
from otelflow._values.text import is_clean, scrub_long
from otelflow.config import OTELFLOW_ARTIFACT_STORE
from otelflow.events import FlowRunEventType

__all__ = ["emit_artifact", "emit_result"]

_INFO = logging.INFO
_NEW_ARTIFACT, _NEW_RESULT = FlowRunEventType.NEW_ARTIFACT, FlowRunEventType.NEW_RESULT  # see message.py
_KEY, _TYPE, _DESCRIPTION = wire.ARTIFACT_KEY, wire.ARTIFACT_TYPE, wire.ARTIFACT_DESCRIPTION
_DATA, _SIZE, _SHA256 = wire.ARTIFACT_DATA, wire.ARTIFACT_SIZE, wire.ARTIFACT_SHA256
_ARTIFACT_BYTES = estimated_size({_KEY: "", _TYPE: "", _DESCRIPTION: "", _DATA: "", _SIZE: 0, _SHA256: 64 * "0"})
_STORE = os.environ.get(OTELFLOW_ARTIFACT_STORE, "").strip()


def emit_artifact(run: Emitter, key: str, data: object, description: str, kind: str, at: At | None = None) -> None:
    """Emit an artifact: its preview goes on the span and into the history, the object to memory and listeners."""
    ns = clock.now() if at is None else at[0]
    text = None
    is_recorded = has_audience(run)
    if is_recorded and is_clean(key) and is_clean(description) and is_clean(kind):
        text = simple_json(data, key)
    attributes: dict[str, Any] | None
    if text is None:
        take_redacted_count()  # reset: the count may be from another text that this thread scrubbed
        key, description, kind = scrub_long(key), scrub_long(description), scrub_long(kind)
        attributes = _artifact_attributes(run, key, data, description, kind) if is_recorded else None
        size = 0  # unknown
        if attributes is not None:
            run._redacted += take_redacted_count()
        history_payload = (
            history_text(description),
            history_text(key),
            _describe_unread(data) if attributes is None else attributes[_DATA],
            history_text(kind),
        )
    else:  # clean: no text needs a change, and nothing was redacted
        size = _ARTIFACT_BYTES + len(key) + len(kind) + len(description) + len(text)
        attributes = {_KEY: key, _TYPE: kind, _DESCRIPTION: description, _DATA: text}
        attributes[_SIZE], attributes[_SHA256] = len(text), sha256_of(text)
        history_payload = (description, key, text, kind)
    origin = origin_of(run, "artifact", at)
    if origin is None:
        return
    body = None if attributes is None else attributes[_DESCRIPTION] or attributes[_KEY]
    if not add_counted_event(run, wire.ARTIFACT_EVENT, attributes, ns, body, _INFO, size, True):
        counts.add(after_end_reason("artifact"))
        return
    run._target_memory.artifacts.append((key, data, description, kind, ns, *run._task_number()))
    if run._recorder is not None:
        run._recorder.record_event(run, "artifact", ns, origin[0], (key, data, description, kind))
        return
    notify(_NEW_ARTIFACT, ns, origin, (description, key, data, kind), history_payload, _INFO)


def _artifact_attributes(run: Emitter, key: str, data: object, description: str, kind: str) -> dict[str, Any]:
    preview = to_json(data, name=key)
    attributes: dict[str, Any] = {
        _KEY: truncate_counted(run, key),
        _TYPE: truncate_counted(run, kind),
        _DESCRIPTION: truncate_counted(run, description),
        _DATA: preview.text,
    }
    if preview.was_cut:
        run._truncated += 1
        counts.add(VALUES)
    size, digest = preview.size, preview.sha256
    if _STORE and preview.was_cut:
        from otelflow._artifacts.store import store_artifact  # loaded only if a store is configured

        stored = store_artifact(_STORE, data)
        if stored is not None:
            size, digest = stored.size, stored.sha256
            if stored.uri is not None:
                attributes[wire.ARTIFACT_URI] = stored.uri
    if size is not None:
        attributes[_SIZE], attributes[_SHA256] = size, digest
    return attributes


def _describe_unread(data: object) -> str:
    """Describe an artifact that is on no span, for the history, without reading its content."""
    kind = type(data)
    length = f" of {len(data)}" if kind in (str, bytes, list, tuple, dict, set) else ""  # type: ignore[arg-type]
    return f"<{kind.__name__}{length}: not recorded>"


def emit_result(run: Emitter, key: str, description: str, at: At | None = None) -> None:
    """Emit a result: to the span, memory, history and listeners."""
    take_redacted_count()
    key, description = scrub_long(key), scrub_long(description, key)
    ns = clock.now() if at is None else at[0]
    attributes = None
    if has_audience(run):
        attributes = {
            wire.RESULT_KEY: truncate_counted(run, key),
            wire.RESULT_DESCRIPTION: truncate_counted(run, description),
        }
    origin = origin_of(run, "result", at)
    if origin is None:
        return
    if not add_span_event(
        run, wire.RESULT_EVENT, attributes, ns, None if attributes is None else attributes[wire.RESULT_DESCRIPTION]
    ):
        counts.add(after_end_reason("result"))
        return
    run._target_memory.results.append((key, description, ns, *run._task_number()))
    if run._recorder is not None:
        run._recorder.record_event(run, "result", ns, origin[0], (key, description))
        return
    notify(
        _NEW_RESULT,
        ns,
        origin,
        (key, description),
        (history_text(key), history_text(description)),
        _INFO,
    )
