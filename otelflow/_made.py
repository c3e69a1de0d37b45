"""What a run made, as all the world sees of it: artifacts and results, on the same way as its messages."""

from __future__ import annotations

import logging
import os
from typing import Any

from otelflow import _clock
from otelflow import attributes as wire
from otelflow._counts import VALUES, after_end, counts
from otelflow._emit import At, Emitter, deliver, fitted, origin_of, short
from otelflow._scrubbing import take_redacted
from otelflow._span_events import is_wanted, span_event
from otelflow._values import to_json, whole
from otelflow.config import OTELFLOW_ARTIFACT_STORE
from otelflow.events import FlowRunEventType

__all__ = ["artifact", "result"]

_INFO = logging.INFO
_STORE = os.environ.get(OTELFLOW_ARTIFACT_STORE, "").strip()


def artifact(run: Emitter, key: str, data: object, description: str, kind: str, at: At | None = None) -> None:
    """Something that the run made: span event with a preview, the object itself in memory and for listeners."""
    take_redacted()
    key, description, kind = whole(key), whole(description), whole(kind)
    ns = _clock.now() if at is None else at[0]
    made = _artifact_attributes(run, key, data, description, kind) if is_wanted(run) else None
    origin = origin_of(run, "artifact", at)
    if origin is None:
        return
    told = None if made is None else made[wire.ARTIFACT_DESCRIPTION] or made[wire.ARTIFACT_KEY]
    if not span_event(run, wire.ARTIFACT_EVENT, made, ns, told):
        counts.add(after_end("artifact"))
        return
    run._journal.artifacts.append((key, data, description, kind, ns, *run._task_number()))
    if run._relay is not None:
        run._relay.said(run, "artifact", ns, origin[0], (key, data, description, kind))
        return
    heard = (description, key, data, kind)
    preview = _unseen(data) if made is None else made[wire.ARTIFACT_DATA]
    remembered = (short(description), short(key), preview, short(kind))
    deliver(FlowRunEventType.NEW_ARTIFACT, ns, origin, heard, remembered, _INFO)


def _artifact_attributes(run: Emitter, key: str, data: object, description: str, kind: str) -> dict[str, Any]:
    preview = to_json(data, name=key)
    made: dict[str, Any] = {
        wire.ARTIFACT_KEY: fitted(run, key),
        wire.ARTIFACT_TYPE: fitted(run, kind),
        wire.ARTIFACT_DESCRIPTION: fitted(run, description),
        wire.ARTIFACT_DATA: preview.text,
    }
    if preview.was_cut:
        run._cut += 1
        counts.add(VALUES)
    size, digest = preview.size, preview.sha256
    if _STORE and preview.was_cut:
        from otelflow._artifact_store import keep  # for who asked for one

        stored = keep(_STORE, data)
        if stored is not None:
            size, digest = stored.size, stored.sha256
            if stored.uri is not None:
                made[wire.ARTIFACT_URI] = stored.uri
    if size is not None:
        made[wire.ARTIFACT_SIZE] = size
        made[wire.ARTIFACT_SHA256] = digest
    return made


def _unseen(data: object) -> str:
    """What the history says of an artifact that no span wanted: nothing is read of it."""
    kind = type(data)
    length = f" of {len(data)}" if kind in (str, bytes, list, tuple, dict, set) else ""  # type: ignore[arg-type]
    return f"<{kind.__name__}{length}: not recorded>"


def result(run: Emitter, key: str, description: str, at: At | None = None) -> None:
    """A result that the run wants to be seen."""
    take_redacted()
    key, description = whole(key), whole(description, key)
    ns = _clock.now() if at is None else at[0]
    made = None
    if is_wanted(run):
        made = {wire.RESULT_KEY: fitted(run, key), wire.RESULT_DESCRIPTION: fitted(run, description)}
    origin = origin_of(run, "result", at)
    if origin is None:
        return
    if not span_event(run, wire.RESULT_EVENT, made, ns, None if made is None else made[wire.RESULT_DESCRIPTION]):
        counts.add(after_end("result"))
        return
    run._journal.results.append((key, description, ns, *run._task_number()))
    if run._relay is not None:
        run._relay.said(run, "result", ns, origin[0], (key, description))
        return
    deliver(FlowRunEventType.NEW_RESULT, ns, origin, (key, description), (short(key), short(description)), _INFO)
