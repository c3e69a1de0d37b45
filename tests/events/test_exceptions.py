"""What is recorded of an exception: whatever it is, bounded, without secrets, and at once."""

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
"""Classes of exceptions that refuse to be looked at."""


def refuses(cls: Any) -> Any:
    KINDS.append(cls)
    return cls


@refuses
class AnswersAll(Exception):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@refuses
class WithoutNotes(Exception):
    @property
    def __notes__(self) -> Any:
        raise RuntimeError("notes")


@refuses
class OddNotes(Exception):
    __notes__ = 5


@refuses
class OddGroup(Exception):
    @property
    def exceptions(self) -> Any:
        raise KeyError("exceptions")


@refuses
class OddCause(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise KeyError("cause")


@refuses
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
def test_an_exception_that_refuses_to_be_looked_at(kind: Any, captured: Capture) -> None:
    """It is the one that the caller gets, recorded, and said; and so is one that it is the cause of."""
    for work, expected in ((fails, kind), (fails_because, ValueError)):
        reached = type(caught(runs(partial(work, kind("told"))).execute))
        assert reached is expected  # its type alone: pytest would look at what it is
        made = captured.tasks[-1]
        assert [event.name for event in made.events] == ["exception", "otelflow.message"]
        assert made.attributes["error.type"].rpartition(".")[2] == expected.__name__
        assert stack_of(captured, work.__name__)


def outside(number: int) -> int:
    return inside(number) + 1


def inside(number: int) -> int:
    return number // 0


def caught(call: Any, *given: Any) -> BaseException:
    try:
        call(*given)
    except BaseException as error:
        return error
    raise AssertionError


def as_python(error: BaseException) -> str:
    """What Python prints, without the marks below the lines of source."""
    lines = "".join(traceback.format_exception(error)).splitlines(keepends=True)
    return "".join(line for line in lines if line.strip("~^ \n") or not line.strip())


def test_a_traceback_is_what_python_prints() -> None:
    """The first time and the second: with causes, contexts, and what was raised in their place."""

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
    """A module that is loaded anew is not shown with its lines of before."""
    path = tmp_path / "again.py"
    for text in ("1 / 0  # first", "1 / 0  # second, which is longer"):
        path.write_text(text)
        linecache.checkcache(str(path))
        error = caught(exec, compile(text, str(path), "exec"))
        assert f"    {text}\n" in format_error(error)


def test_the_users_rules_hold_for_lines_that_are_known() -> None:
    """A callback that comes later sees them."""
    error = caught(outside, 1)
    assert "number // 0" in format_error(error)
    use_callback(lambda name, text, rule: text.replace("number", "NUMBER"))
    try:
        assert "NUMBER // 0" in format_error(error)
    finally:
        use_callback(None)
    assert "number // 0" in format_error(error)


def test_a_secret_in_a_line_of_source_is_counted_each_time(captured: Capture) -> None:
    """Each span says how many values of it were redacted."""

    @task
    def connects() -> None:
        print(1 / 0, dict(password="hunter2-canary"))  # noqa: C408  # a literal beside its name

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
    """However many there are, and however large."""
    error = ValueError("many")
    error.__notes__ = [f"note {number} " + "é" * 50 for number in range(10_000)]  # type: ignore[attr-defined]
    text = format_error(error)
    assert len(text.encode()) < MAX_VALUE_BYTES + 100
    assert "note 0 " in text
    assert "more notes]" in text
    error.__notes__ = ["x" * 1_000_000]  # type: ignore[attr-defined]
    assert len(format_error(error).encode()) < MAX_VALUE_BYTES + 100


def test_circles_of_causes_end() -> None:
    """Exceptions that are each other's causes, and one that is its own context."""
    first, second = caught(outside, 1), caught(outside, 2)
    first.__cause__, second.__cause__ = second, first
    assert format_error(first).count("ZeroDivisionError") == 2
    first.__cause__ = None
    first.__suppress_context__ = False
    first.__context__, second.__cause__, second.__context__ = second, None, first
    assert format_error(first).count("ZeroDivisionError") == 2


def test_lone_surrogates_of_a_file_name() -> None:
    """As file names that are no UTF-8 have them: UTF-8 and protobuf refuse them."""
    error = caught(exec, compile("1 / 0", "bad\udcff.py", "exec"))
    assert 'File "bad\\udcff.py"' in format_error(error)


TEXTS = ["no", "disk full: 'a' = 1", "", "é" * 40, "x" * 5000, "password=hunter2", "\x1b[31mred\x1b[0m", "\ud800"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("config", [{}, {"log_level": 41}, {"logging_enabled": False}, {"log_to_memory": False}])
def test_what_is_said_of_a_plain_text_is_what_is_said_of_any(
    text: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, captured: Capture, capsys: Any
) -> None:
    """A text that is known to be clean is not looked at twice: what comes of it is the same."""

    def account() -> Any:
        heard: list[Any] = []
        flow_events.clear_history()
        settings = FlowRunConfig(capture_output=False, log_to_console=True, raise_flow_error=False, **config)
        with flow_events.listen(heard.append):
            run: Any = flow(flow_config=settings)(lambda: fails(OSError(text)))().execute()
        made = captured.tasks[-1]
        events = [(event.name, dict(event.attributes or {})) for event in made.events]
        shown = [line.partition(" | ")[2] for line in capsys.readouterr().out.splitlines()]
        messages = [(str(one), one.raw, one.log_level, one.task_name, one.attributes) for one in run.messages]
        seen = [[event.event_data.data for event in some] for some in (heard, flow_events.history())]
        told = [[data["message_data"] for data in some if "message_data" in data] for some in seen]
        attributes = {key: value for key, value in made.attributes.items() if not key.endswith("run_id")}
        return events, shown, messages, told, attributes, made.span.status.description

    plain = account()
    monkeypatch.setattr("otelflow._events.exception.is_independent_prefix", lambda prefix: False)
    assert account() == plain


PIECES = ["password", "token", "=", ": ", " ", '"', "'", "\\", "{", ")", "<", ">", "--", "://", "@", "task", "\n", "é"]
PIECES += ["x" * 17, "-----BEGIN PRIVATE KEY-----", "4111 1111 ", "1111 1111", "Bearer ", "Basic ", "KeyError", "a.B"]
SOME = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(SOME, SOME)
def test_what_stands_apart_makes_no_secret_of_what_follows(prefix: str, text: str) -> None:
    """Where it is said so, a clean text is clean behind it, too."""
    prefix = f"{prefix}: "
    if is_independent_prefix(prefix) and scrub_text(text) == text:
        assert scrub_text(prefix + text) == prefix + text


def test_what_does_not_stand_apart() -> None:
    """A name of secrets, one half of a form, the user's own rules."""
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


def test_nothing_of_a_failed_call_is_kept() -> None:
    """Neither what its frames hold nor the exception: what is kept of it is text."""
    done = programs.run("""
        import gc, weakref
        from otelflow import FlowRunConfig

        class Held:
            pass

        class Own(Exception):
            pass

        def fails(held):
            raise Own("no")

        @task
        def holds(gone):
            held = Held()
            gone.append(weakref.ref(held))
            fails(held)

        gone = []

        @flow(flow_config=FlowRunConfig(add_task_to_self=False))
        def root():
            try:
                holds(gone)
            except Own as error:
                gone.append(weakref.ref(error))

        gc.disable()
        made = root().execute()
        say(gone=[one() is None for one in gone], said=list(made.messages))
        """)
    assert done.said == {"gone": [True, True], "said": ["Error executing 'holds' task: no"]}, done.stderr


class Mute(NonRecordingSpan):
    """A span of another SDK, which does not answer."""

    def is_recording(self) -> bool:
        raise RuntimeError("no answer")


class MuteTracer(Tracer):
    def start_span(self, *_: Any, **__: Any) -> Any:
        return Mute(INVALID_SPAN_CONTEXT)

    def start_as_current_span(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class MuteProvider(TracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return MuteTracer()


def test_a_span_that_does_not_answer_puts_no_exception_in_the_place_of_the_users() -> None:
    @task
    def fails() -> None:
        raise ValueError("the user's")

    @flow(transparent=True)
    def root() -> None:
        fails()

    with use_provider(MuteProvider()), pytest.raises(ValueError, match="the user's"):
        root()


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_full_stack_leaves_no_context_behind(fails: bool, listens: bool) -> None:
    """However little room there is when a task ends, what it made current is taken back."""
    ended: set[type[Exception]] = set()

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
                ended.add(type(error))
            assert get_current() is before, depth

    with use_provider(NoOpTracerProvider()), flow_events.listen(lambda _: None) if listens else nullcontext():
        tries()
    assert ended == ({ValueError, RecursionError} if fails else {RecursionError})


def test_where_the_stack_is_full_listeners_hear_what_the_spans_say(captured: Capture) -> None:
    """Where there is no room for both, there is neither; the task above, where there is, says it. At each depth that
    the first task may begin at, as it depends on that where the stack ends."""

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
    assert sum("recursion" in str(event.attributes) for one in captured.tasks for event in one.span.events) >= 40
