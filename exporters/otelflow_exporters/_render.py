"""A trace as lines of text: names as a tree, durations, bars on a common time axis, errors, folded siblings."""

from __future__ import annotations

import statistics
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

__all__ = ["Style", "render"]

_BAR = 24
"""Columns of the time axis."""

_MOST_SIBLINGS = 10
"""More siblings of one name than this become one line."""

_LONGEST_NAME = 48
_SHOWN_FAILURES = 3


@dataclass(frozen=True)
class Style:
    """How to print: with terminal colours, with the text of message events, in how many columns (None: any number),
    and whether the output takes ASCII only."""

    colours: bool = False
    messages: bool = False
    columns: int | None = None
    ascii_only: bool = False


@dataclass(frozen=True)
class _Line:
    label: str
    duration: str = ""
    bar: str = ""
    note: str = ""
    failed: bool = False


def render(spans: Sequence[ReadableSpan], style: Style, note: str = "") -> list[str]:
    """The lines for the ``spans`` of one trace, in any order; ``note`` stands behind the first."""
    ids = {span.context.span_id for span in spans if span.context}
    children: dict[int, list[ReadableSpan]] = defaultdict(list)
    tops: list[ReadableSpan] = []
    for span in sorted(spans, key=_start):
        parent = span.parent.span_id if span.parent else None
        (children[parent] if parent in ids and parent is not None else tops).append(span)
    axis = _Axis(spans)
    lines: list[_Line] = []
    for top in tops:
        lines.append(_line("", top, axis))
        _add_below(lines, top, children, axis, "", style)
    if note and lines:
        first = lines[0]
        lines[0] = _Line(first.label, first.duration, first.bar, f"{first.note}  ({note})".strip(), first.failed)
    return _aligned(lines, style)


def _start(span: ReadableSpan) -> int:
    return span.start_time or 0


def _seconds(span: ReadableSpan) -> float:
    return max(0, (span.end_time or _start(span)) - _start(span)) / 1e9


class _Axis:
    """The time of a whole trace, mapped to the columns of a bar."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self._begin = min(map(_start, spans), default=0)
        end = max((span.end_time or 0 for span in spans), default=0)
        self._column = max(1, end - self._begin) / _BAR

    def bar(self, begin: int, end: int) -> str:
        first = min(_BAR - 1, int((begin - self._begin) / self._column))
        last = min(_BAR, max(first + 1, round((end - self._begin) / self._column)))
        return " " * first + "━" * (last - first) + " " * (_BAR - last)


def _add_below(
    lines: list[_Line],
    span: ReadableSpan,
    children: dict[int, list[ReadableSpan]],
    axis: _Axis,
    indent: str,
    style: Style,
) -> None:
    """The lines below ``span``. Walks without recursion: a trace may be as deep as a program's stack."""
    stack: list[tuple[str, list[ReadableSpan | list[ReadableSpan]]]] = [(indent, _below(span, children))]
    if style.messages:
        lines.extend(_messages(span, indent))
    while stack:
        indent, items = stack[-1]
        if not items:
            stack.pop()
            continue
        item = items.pop(0)
        branch, deeper = ("├─ ", "│  ") if items else ("└─ ", "   ")
        if isinstance(item, list):
            lines.append(_folded(indent + branch, item, axis))
            lines.extend(_failures(indent + deeper, item, axis))
            continue
        lines.append(_line(indent + branch, item, axis))
        if style.messages:
            lines.extend(_messages(item, indent + deeper))
        stack.append((indent + deeper, _below(item, children)))


def _below(span: ReadableSpan, children: dict[int, list[ReadableSpan]]) -> list[ReadableSpan | list[ReadableSpan]]:
    """The children of a span; many of one name as a list."""
    own = children.get(span.context.span_id, []) if span.context else []
    by_name: dict[str, list[ReadableSpan]] = defaultdict(list)
    for child in own:
        by_name[child.name].append(child)
    made: list[ReadableSpan | list[ReadableSpan]] = []
    for child in own:
        group = by_name[child.name]
        if len(group) <= _MOST_SIBLINGS:
            made.append(child)
        elif child is group[0]:
            made.append(group)
    return made


def _failures(indent: str, group: list[ReadableSpan], axis: _Axis) -> Iterable[_Line]:
    """The first failures among folded siblings, and how many more there are."""
    failed = [span for span in group if _failed(span)]
    for span in failed[:_SHOWN_FAILURES]:
        yield _line(indent + "· ", span, axis)
    if len(failed) > _SHOWN_FAILURES:
        yield _Line(f"{indent}… {len(failed) - _SHOWN_FAILURES} more failed")


def _failed(span: ReadableSpan) -> bool:
    return span.status.status_code is StatusCode.ERROR


def _line(prefix: str, span: ReadableSpan, axis: _Axis) -> _Line:
    end = span.end_time or _start(span)
    note = f"✗ {_clean(_error(span))}" if _failed(span) else _remark(span)
    return _Line(
        prefix + _clean(span.name, _LONGEST_NAME), _time(_seconds(span)), axis.bar(_start(span), end), note, bool(note)
    )


def _folded(prefix: str, group: list[ReadableSpan], axis: _Axis) -> _Line:
    seconds = [_seconds(span) for span in group]
    failures = sum(map(_failed, group))
    note = f"median {_time(statistics.median(seconds))}, slowest {_time(max(seconds))}"
    if failures:
        note += f", ✗ {failures} failed"
    begin, end = min(map(_start, group)), max(span.end_time or _start(span) for span in group)
    label = f"{prefix}{_clean(group[0].name, _LONGEST_NAME)} ×{len(group)}"
    return _Line(label, _time((end - begin) / 1e9), axis.bar(begin, end), note, bool(failures))


def _error(span: ReadableSpan) -> str:
    """What went wrong: the status says it, or the exception event, or the error's type."""
    if span.status.description:
        return span.status.description
    for event in span.events:
        if event.name == "exception" and event.attributes:
            return f"{event.attributes.get('exception.type', '')}: {event.attributes.get('exception.message', '')}"
    return str((span.attributes or {}).get("error.type", "error"))


def _messages(span: ReadableSpan, indent: str) -> Iterable[_Line]:
    for event in span.events:
        text = (event.attributes or {}).get("otelflow.message.text")
        if text is not None:
            yield _Line(f"{indent}· {_clean(str(text))}")


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _clean(text: str, longest: int = 160) -> str:
    """One line of printable text: what a span says must not move the cursor of whoever reads it."""
    shown = "".join(" " if char in "\r\n\t" else char for char in text[: longest + 1])
    shown = "".join(char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") else "�" for char in shown)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _remark(span: ReadableSpan) -> str:
    """What a person has to know of a span that did not fail, where otelflow says it."""
    attributes = span.attributes or {}
    if attributes.get("otelflow.status") == "cancelled":
        return "⊘ cancelled"
    return "in no flow" if attributes.get("otelflow.task.orphan") else ""


def _aligned(lines: list[_Line], style: Style) -> list[str]:
    timed = [line for line in lines if line.duration]
    width = max((_width(line.label) for line in timed), default=0)
    return [_text(line, width, style) for line in lines]


_ASCII = str.maketrans("├└│─━✗×µ…·⊘", "|`|-=xxu~-o")
"""For outputs that take no other characters; what else there is becomes a question mark."""


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _text(line: _Line, width: int, style: Style) -> str:
    if not line.duration:
        return _fitting(line.label, style.columns, style)
    label = line.label + " " * (width - _width(line.label))
    head = _fitting(f"{label}  {line.duration:>9}  ", None, style)
    bar = _fitting(line.bar, None, style)
    note = _fitting(line.note, None if style.columns is None else style.columns - _width(head) - _BAR - 2, style)
    if not style.colours:
        return f"{head}{bar}  {note}".rstrip()
    colour = 31 if line.failed else 36
    return f"{head}\x1b[{colour}m{bar}\x1b[0m  " + (f"\x1b[{31 if line.failed else 2}m{note}\x1b[0m" if note else "")


def _fitting(text: str, columns: int | None, style: Style) -> str:
    """``text`` in that many columns, in characters that the output takes."""
    if style.ascii_only:
        text = text.translate(_ASCII).encode("ascii", "replace").decode()
    if columns is None or _width(text) <= columns:
        return text
    while text and _width(text) > columns - 1:
        text = text[:-1]
    return text + ("~" if style.ascii_only else "…")
