"""Test the record of an exception: it is bounded, has no secrets, and works for any exception."""

from __future__ import annotations

import linecache
import sys
import traceback
from contextlib import nullcontext
from functools import partial
from typing import Any

import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, NoOpTracerProvider, Tracer, TracerProvider

from otelflow import FlowRunConfig, flow, flow_events, stats, task
from otelflow._spans.tracer import use_provider
from otelflow._values.scrub import is_independent_prefix, scrub_source, scrub_text, take_redacted_count, use_callback
from otelflow._values.text import MAX_VALUE_BYTES
from otelflow._values.traceback import format_error
from otelflow.context import get_current
from otelflow.testing import Capture

KINDS: list[Any] = []
"""Classes of exceptions with attributes that raise or have the wrong type."""


def odd_exception(cls: Any) -> Any:
    KINDS.append(cls)
    return cls


@odd_exception
class RaisingGetattr(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@odd_exception
class RaisingNotes(Exception):
    @property
    def __notes__(self) -> Any:
        raise RuntimeError("notes")


@odd_exception
class OddNotes(Exception):
    __notes__ = 5


@odd_exception
class OddGroup(Exception):
    @property
    def exceptions(self) -> Any:
        raise KeyError("exceptions")


@odd_exception
class OddCause(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise KeyError("cause")


@odd_exception
class Empty(Exception):
    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


@task
def fails(error: BaseException) -> None:
    raise error


@task
def fails_because(error: BaseException) -> None:
    raise ValueError("because") from error


@flow(flow_config=FlowRunConfig(capture_output=False))
def runs(work: Any) -> None:
    work()


def stack_of(captured: Capture, name: str = "fails") -> str:
    exception, *_ = captured.tasks[-1].events
    assert captured.tasks[-1].name == name
    return str((exception.attributes or {})["exception.stacktrace"])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_exception_whose_attributes_cannot_be_read(kind: Any, captured: Capture) -> None:
    """It reaches the caller, is recorded, and has a message; the same holds for an exception that it caused."""
    for work, expected in ((fails, kind), (fails_because, ValueError)):
        raised_type = type(caught(runs(partial(work, kind("text"))).execute))
        assert raised_type is expected  # only the type: pytest would read the exception
        task_run = captured.tasks[-1]
        assert [event.name for event in task_run.events] == ["exception", "otelflow.message"]
        assert task_run.attributes["error.type"].rpartition(".")[2] == expected.__name__
        assert stack_of(captured, work.__name__)


def outside(number: int) -> int:
    return inside(number) + 1


def inside(number: int) -> int:
    return number // 0


def caught(call: Any, *args: Any) -> BaseException:
    try:
        call(*args)
    except BaseException as error:
        return error
    raise AssertionError


def as_python(error: BaseException) -> str:
    """Return what Python prints, without the marks below the lines of source."""
    lines = "".join(traceback.format_exception(error)).splitlines(keepends=True)
    return "".join(line for line in lines if line.strip("~^ \n") or not line.strip())


def test_a_traceback_is_what_python_prints() -> None:
    """Also with causes, with contexts, and with exceptions raised `from None`; the first time and the second."""

    def chained(number: int) -> None:
        try:
            outside(number)
        except ZeroDivisionError as error:
            if number == 1:
                raise KeyError("from") from error
            if number == 2:
                raise KeyError("in its place") from None
            raise KeyError("while") from caught(outside, 0)

    for call, number in ((outside, 1), (chained, 1), (chained, 2), (chained, 3)):
        error = caught(call, number)
        assert [format_error(error), format_error(error)] == [as_python(error)] * 2


def test_a_line_is_as_new_as_in_the_line_cache(tmp_path: Any) -> None:
    """A module that is loaded again is shown with its new lines."""
    path = tmp_path / "again.py"
    for text in ("1 / 0  # first", "1 / 0  # second, which is longer"):
        path.write_text(text)
        linecache.checkcache(str(path))
        error = caught(exec, compile(text, str(path), "exec"))
        assert f"    {text}\n" in format_error(error)


def test_the_users_rules_apply_to_cached_lines() -> None:
    """A callback that is set later gets them."""
    error = caught(outside, 1)
    assert "number // 0" in format_error(error)
    use_callback(lambda name, text, rule: text.replace("number", "NUMBER"))
    try:
        assert "NUMBER // 0" in format_error(error)
    finally:
        use_callback(None)
    assert "number // 0" in format_error(error)


def test_a_secret_in_a_line_of_source_is_counted_each_time(captured: Capture) -> None:
    """Each span has the number of its redacted values."""

    @task
    def connects() -> None:
        print(1 / 0, dict(password="hunter2-canary"))  # noqa: C408  # a literal next to its name

    for _ in range(2):
        before = stats().dropped.get("values_redacted", 0)
        with pytest.raises(ZeroDivisionError):
            connects()
        assert "[redacted:name password]" in stack_of(captured, "connects")
        assert captured.tasks[-1].attributes["otelflow.redacted"] == 1
        assert stats().dropped["values_redacted"] == before + 1
    assert scrub_source("x = 1") == "x = 1"
    assert take_redacted_count() == 0


def test_notes_and_groups_are_bounded() -> None:
    """By number and by size."""
    error = ValueError("many")
    error.__notes__ = [f"note {number} " + "é" * 50 for number in range(10_000)]  # type: ignore[attr-defined]
    text = format_error(error)
    assert len(text.encode()) < MAX_VALUE_BYTES + 100
    assert "note 0 " in text
    assert "more notes]" in text
    error.__notes__ = ["x" * 1_000_000]  # type: ignore[attr-defined]
    assert len(format_error(error).encode()) < MAX_VALUE_BYTES + 100


def test_cycles_of_causes_end() -> None:
    """Two exceptions are each other's causes, or cause and context."""
    first, second = caught(outside, 1), caught(outside, 2)
    first.__cause__, second.__cause__ = second, first
    assert format_error(first).count("ZeroDivisionError") == 2
    first.__cause__ = None
    first.__suppress_context__ = False
    first.__context__, second.__cause__, second.__context__ = second, None, first
    assert format_error(first).count("ZeroDivisionError") == 2


def test_lone_surrogates_in_a_file_name_are_escaped() -> None:
    """File names that are not UTF-8 have them; UTF-8 and protobuf reject them."""
    error = caught(exec, compile("1 / 0", "bad\udcff.py", "exec"))
    assert 'File "bad\\udcff.py"' in format_error(error)


TEXTS = ["no", "disk full: 'a' = 1", "", "é" * 40, "x" * 5000, "password=hunter2", "\x1b[31mred\x1b[0m", "\ud800"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("config", [{}, {"log_level": 41}, {"logging_enabled": False}, {"log_to_memory": False}])
def test_the_short_path_for_clean_texts_has_the_same_results(
    text: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, captured: Capture, capsys: Any
) -> None:
    """A text that is known to be clean is not scanned again; the span, messages and events are the same."""

    def results() -> Any:
        listened: list[Any] = []
        flow_events.clear_history()
        settings = FlowRunConfig(capture_output=False, log_to_console=True, raise_flow_error=False, **config)
        with flow_events.listen(listened.append):
            run: Any = flow(flow_config=settings)(lambda: fails(OSError(text)))().execute()
        task_run = captured.tasks[-1]
        span_events = [(event.name, dict(event.attributes or {})) for event in task_run.events]
        console = [line.partition(" | ")[2] for line in capsys.readouterr().out.splitlines()]
        messages = [(str(one), one.raw, one.log_level, one.task_name, one.attributes) for one in run.messages]
        payloads = [[event.event_data.data for event in events] for events in (listened, flow_events.history())]
        message_data = [[data["message_data"] for data in some if "message_data" in data] for some in payloads]
        attributes = {key: value for key, value in task_run.attributes.items() if not key.endswith("run_id")}
        return span_events, console, messages, message_data, attributes, task_run.span.status.description

    expected = results()
    monkeypatch.setattr("otelflow._events.exception.is_independent_prefix", lambda prefix: False)
    assert results() == expected


PIECES = ["password", "token", "=", ": ", " ", '"', "'", "\\", "{", ")", "<", ">", "--", "://", "@", "task", "\n", "é"]
PIECES += ["x" * 17, "-----BEGIN PRIVATE KEY-----", "4111 1111 ", "1111 1111", "Bearer ", "Basic ", "KeyError", "a.B"]
SOME = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(SOME, SOME)
def test_an_independent_prefix_makes_no_secret_of_the_text_after_it(prefix: str, text: str) -> None:
    """A clean text is also clean after such a prefix."""
    prefix = f"{prefix}: "
    if is_independent_prefix(prefix) and scrub_text(text) == text:
        assert scrub_text(prefix + text) == prefix + text


def test_prefixes_that_are_not_independent() -> None:
    """A name of secrets, one half of a secret's form, and any prefix if the user has own rules."""
    assert is_independent_prefix("ValueError: ")
    assert is_independent_prefix("Error executing 'add' task: ")
    assert not is_independent_prefix("shop.BadToken: ")
    assert not is_independent_prefix("Error executing 'get password' task: ")
    assert not is_independent_prefix("Error executing 'AKIAIOSFODNN7EXAMPLE' task: ")
    use_callback(lambda name, text, rule: None)
    try:
        assert not is_independent_prefix("ValueError: ")
    finally:
        use_callback(None)
    assert is_independent_prefix("ValueError: ")


def test_a_failed_call_leaves_only_text_in_memory() -> None:
    """Neither the objects in its frames nor the exception stay."""
    program = programs.run("""
        import gc, weakref
        from otelflow import FlowRunConfig

        class Held:
            pass

        class Own(Exception):
            pass

        def fails(held):
            raise Own("no")

        @task
        def holds(references):
            held = Held()
            references.append(weakref.ref(held))
            fails(held)

        references = []

        @flow(flow_config=FlowRunConfig(add_task_to_self=False))
        def root():
            try:
                holds(references)
            except Own as error:
                references.append(weakref.ref(error))

        gc.disable()
        run = root().execute()
        say(freed=[reference() is None for reference in references], messages=list(run.messages))
        """)
    expected = {"freed": [True, True], "messages": ["Error executing 'holds' task: no"]}
    assert program.facts == expected, program.stderr


class RaisingSpan(NonRecordingSpan):
    """A span of another SDK, whose methods raise."""

    def is_recording(self) -> bool:
        raise RuntimeError("is_recording")


class RaisingTracer(Tracer):
    def start_span(self, *_: Any, **__: Any) -> Any:
        return RaisingSpan(INVALID_SPAN_CONTEXT)

    def start_as_current_span(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class RaisingProvider(TracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return RaisingTracer()


def test_a_span_that_raises_does_not_replace_the_users_exception() -> None:
    """The task's own exception reaches the caller."""

    @task
    def fails() -> None:
        raise ValueError("the user's")

    @flow(transparent=True)
    def root() -> None:
        fails()

    with use_provider(RaisingProvider()), pytest.raises(ValueError, match="the user's"):
        root()


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_full_stack_leaves_no_context_behind(fails: bool, listens: bool) -> None:
    """A task that ends detaches its context, at any depth of the stack."""
    errors: set[type[Exception]] = set()

    @task
    def ends() -> None:
        if fails:
            raise ValueError("no")

    def from_depth(depth: int) -> None:
        if depth:
            from_depth(depth - 1)
        else:
            ends()

    @flow(transparent=True)
    def tries() -> None:
        before = get_current()
        for depth in range(sys.getrecursionlimit()):
            try:
                from_depth(depth)
            except (ValueError, RecursionError) as error:
                errors.add(type(error))
            assert get_current() is before, depth

    with use_provider(NoOpTracerProvider()), flow_events.listen(lambda _: None) if listens else nullcontext():
        tries()
    assert errors == ({ValueError, RecursionError} if fails else {RecursionError})


def test_on_a_full_stack_listeners_and_spans_have_the_same_events(captured: Capture) -> None:
    """If there is no room for both, there is neither, and a task above records the error. The first task starts at
    several depths, because the depth decides where the stack ends."""

    @task
    def deeper() -> None:
        deeper()

    def from_depth(depth: int) -> None:
        if depth:
            from_depth(depth - 1)
        else:
            deeper()

    for depth in range(40):
        with pytest.raises(RecursionError):
            from_depth(depth)
    captured.assert_events_agree()
    events = [event for task_run in captured.tasks for event in task_run.span.events]
    assert sum("recursion" in str(event.attributes) for event in events) >= 40
