"""Implement the lifecycle of a run, once for flows and tasks, and for all kinds of callables."""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller
from typing import Any, ClassVar, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext

from otelflow._events import exception, start_stop
from otelflow._events.message import emit_message as emit_message
from otelflow._events.run_memory import RunMemory
from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.definition import Definition
from otelflow._runs.outcome import began_in_inner_run, status_of
from otelflow._runtime import clock, run_ids, stdout_capture
from otelflow._runtime.log_once import log_end_error, log_start_error
from otelflow._spans.shared_attributes import SharedAttributes
from otelflow._spans.span_events import finish_events
from otelflow._spans.tracer import TracerSource, current_source
from otelflow._values.text import scrub_and_truncate, scrub_long
from otelflow.context import RUN_KEY, SPAN_KEY, SUPPRESS_KEY, UNRESETTABLE, attach, detach, get_current, reset
from otelflow.errors import ArgumentError
from otelflow.events import FlowRunEventType

__all__ = ["Run"]

Self = TypeVar("Self", bound="Run")


class Run:
    """One run of a function: the common base of Flow and Task.

    Fields that every task call reads are in slots. Fields that a run may not need have their default on the class.
    (Python 3.11 takes six times as long to read a field of an object if its class has an attribute of that name.)
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_direct_limit",
        "_ended_ns",
        "_event_bytes",
        "_events",
        "_flow",
        "_flow_ref",
        "_needs_injection",
        "_number",
        "_origin",
        "_recorder",
        "_redacted",
        "_span",
        "_span_context",
        "_spec",
        "_started_ns",
        "_token",
        "_truncated",
    )

    _START: ClassVar[FlowRunEventType]
    _STOP: ClassVar[FlowRunEventType]
    _has_hooks: ClassVar[bool] = False
    """True if the class overrides ``on_start`` or ``on_stop``; otherwise a call does not look for them."""
    _has_own_main: ClassVar[bool] = False
    """True if the class overrides ``main``."""
    _has_own_dependencies: ClassVar[bool] = False
    """True if the class overrides ``dependencies``."""

    _context_of: ClassVar[Any] = methodcaller("get_span_context")
    """Returns the SpanContext of a span. Not a method, which would cost every task one more call."""

    status: str = "running"
    """``pending`` (prepared, not executed yet), ``running``, ``completed``, ``failed`` or ``cancelled``."""
    error: BaseException | None = None
    """The exception that ended the run; None when it completed."""
    return_value: Any = None
    """What the function returned."""

    _is_flow: ClassVar[bool] = False
    _is_prepared: bool = False
    """True if this object was created before its run, and may run again; False if it is for a single call."""
    _spec: Definition
    _flow: Any
    """While the run is in progress, its flow; for a flow, itself."""
    _flow_ref: Any
    """A weak reference to a task's flow."""
    _given_name: str | None = None
    _number: int
    _started_ns: int
    _ended_ns: int
    _span: Span | None
    _span_context: SpanContext | None
    _needs_injection: Any
    """True if there may be something to inject."""
    _links: Any = None
    _token: Any
    _context: Context
    _origin: Any
    """The origin of this run's events; set until the run ends."""
    _recorder: Any
    """In a worker process, the recorder that takes all events, instead of an exporter and listeners."""
    _lines: stdout_capture.Lines | None = None
    _failure: tuple[str, str, str | None] | None = None
    """Of an exception that began here: its type, its description on the span, and its text (None unless clean)."""
    _events: int
    _direct_limit: int
    """How many events are added to the span at once. Set when the first event is added."""
    _event_bytes: int
    """Bytes of the events on the span. Set when the first event is added."""
    _truncated: int
    _redacted: int

    def __new__(cls: type[Self], *_: Any, **__: Any) -> Self:
        self = object.__new__(cls)
        self._blank()
        return self

    def _blank(self) -> None:
        """Fill the slots of an object that has not run yet."""
        self._flow = self._flow_ref = self._span = self._span_context = None
        self._token = self._origin = self._recorder = None
        self._number = self._started_ns = self._ended_ns = self._events = self._truncated = self._redacted = 0
        self._needs_injection = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_hooks = cls.on_start is not Run.on_start or cls.on_stop is not Run.on_stop
        cls._has_own_dependencies = cls.dependencies is not Run.dependencies

    # --- hooks --------------------------------------------------------------------------------------------------

    def on_start(self) -> Any:
        """Hook: prepare resources. Called when the run has started, before the function.

        It may be ``async`` if the function is. An exception ends the run as if the function had raised it.
        """

    def on_stop(self) -> Any:
        """Hook: clean up. Called when the function has returned or raised, if ``on_start`` did not raise.

        It may be ``async`` if the function is.
        """

    def dependencies(self) -> Mapping[str, Any]:
        """Hook: return more values to inject. Called once a run.

        Returns:
            The values by parameter name.
        """
        return {}

    # --- what Flow and Task implement ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the flow or task, and of its span. May be set before the run."""
        return self._given_name or self._spec.name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"{type(self).__name__}.name = {name!r}: the name must be a text that is not empty.")
        self._given_name = scrub_long(name)

    def _join(self, above: Any) -> None:
        """Become a child of the run ``above`` (None if there is none)."""
        raise NotImplementedError

    def _start_attributes(self) -> SharedAttributes:
        raise NotImplementedError

    def _end_attributes(self) -> dict[str, Any]:
        raise NotImplementedError

    def _make_origin(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        raise NotImplementedError

    def _tolerates(self, error: BaseException) -> bool:
        raise NotImplementedError

    def _task_number(self) -> tuple[str | None, int | None]:
        """Return a task's name and number; None for both in a flow."""
        raise NotImplementedError

    def _title(self) -> str:
        raise NotImplementedError

    def _send_end_messages(self) -> None:
        """Send the messages at the end of a run. Called before STOP, if the configuration asks for them."""

    def _compute_totals(self) -> None:
        """Compute the totals of a flow that ends."""

    def _after_stop(self) -> None:
        """Undo the effects of a flow's start. Called for flows only, when the run is over."""

    @property
    def _target_memory(self) -> RunMemory:
        raise NotImplementedError

    @property
    def _settings(self) -> Any:
        raise NotImplementedError

    @property
    def _captures(self) -> bool:
        raise NotImplementedError

    # --- the lifecycle ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Start the span and make this run the current one."""
        if self._is_prepared:
            self._claim()
        context = get_current()
        try:
            self._number = next(run_ids._numbers)
            self._join(context.get(RUN_KEY))
            # before the clock is read: the first call loads the modules that a provider needs
            source = current_source() if self._recorder is None else self._recorder.source
            self._started_ns = clock.now()
            if source is not None and SUPPRESS_KEY not in context:
                span = self._start_span(source, context)
                if span is not None:
                    self._span = span
                    self._span_context = self._context_of(span)
            if self._span is None:
                context_with_run = Context({**context, RUN_KEY: self})
            else:
                context_with_run = Context({**context, RUN_KEY: self, SPAN_KEY: self._span})
            self._origin = self._make_origin()
            self._token = attach(self._with_baggage(context_with_run) if self._is_flow else context_with_run)
            if self._is_flow:
                self._start_capture()
        except BaseException:  # a full stack, Ctrl-C: the run has not started, and must leave nothing behind
            self._undo_open()
            raise

    def _undo_open(self) -> None:
        self.status = "pending"
        self._started_ns = 0
        token, self._token, self._flow = self._token, None, None
        if token is not None:
            detach(token)
        if self._span is not None:
            self._end_span()

    def _claim(self) -> None:
        """Reserve a prepared object for one run and clear its state: it cannot run twice at once."""

    def _start_capture(self) -> None:
        """Start to capture output, if the flow does. This is the last step of opening: if a later one raised, the
        capture would not be stopped."""

    def _start_span(self, source: TracerSource, context: Context) -> Span | None:
        try:
            name = self._spec.wire_name if self._given_name is None else scrub_and_truncate(self._given_name)[0]
            return source.start(name, context, self._start_attributes(), self._started_ns, self._links)
        except Exception as error:  # raised by the user's sampler or processor: the call goes on without a span
            log_start_error(error)
            return None

    def _with_baggage(self, context: Context) -> Context:
        raise NotImplementedError

    _begin = start_stop.on_start
    """Report that the run has begun."""

    def _pause(self) -> None:
        """Detach this run's context between two steps of a generator: the consumer must not see the run as current.

        The context is kept for the next step, with values that the generator attached (a span around its ``yield``).
        """
        self._context = get_current()
        detach(self._token)

    def _resume(self) -> None:
        self._token = attach(self._context)

    def _close(self, value: Any, error: BaseException | None, callable_kind: CallableKind = CallableKind.CALL) -> bool:
        """End the run with ``value`` or ``error``. Return whether the error must reach the caller.

        Raises nothing except a listener's KeyboardInterrupt.
        """
        if run_ids.is_forked_child and run_ids.is_inherited(self._number):
            self._close_inherited(value, error, callable_kind)
            return error is not None and not self._tolerates(error)
        try:
            try:
                if self._lines is not None:
                    self._flush_lines()
                if error is None:
                    self.status = "completed"
                    self.return_value = value
                else:
                    self._record_error(error, callable_kind)
                if self._flow is not None and self._flow._prints_end_messages:
                    self._send_end_messages()
            finally:
                self._ended_ns = clock.now()
                if self._is_flow:  # after the end: a task that another thread starts now is counted as late
                    self._compute_totals()
                start_stop.on_stop(self)
        finally:
            try:
                reset(self._token)
            except UNRESETTABLE:  # in another execution context: see context.detach
                pass
            self._token = self._flow = self._origin = None
            try:
                if self._span is not None:
                    self._end_span()
            finally:  # also on a full stack: the effects of the flow's start must be undone
                if self._is_flow:
                    self._after_stop()
        return error is not None and not self._tolerates(error)

    def _close_inherited(self, value: Any, error: BaseException | None, callable_kind: CallableKind) -> None:
        """End a run in a forked child that the parent process started.

        The object gets its outcome in this process. The span and the events are left to the parent.
        """
        self.status = "completed" if error is None else status_of(error, callable_kind)
        self.return_value, self.error = value, None if self.status == "completed" else error
        self._ended_ns = clock.now()
        detach(self._token)
        self._token = self._flow = self._origin = self._span = None
        if self._is_flow:
            self._after_stop()

    def _record_error(self, error: BaseException, callable_kind: CallableKind) -> None:
        self.status = status_of(error, callable_kind)
        if self.status == "completed":
            return
        self.error = error
        if self.status == "failed" and not began_in_inner_run(self._number, error):
            exception.emit_failure(self, error)
            if self._settings.print_error_stack_trace:
                exception.print_stack_trace(error)

    def _end_span(self) -> None:
        span, self._span = self._span, None
        try:
            finish_events(self, span)
            span.end(self._ended_ns or None)  # type: ignore[union-attr]
            if self._recorder is not None:
                self._recorder.record_span(span)
        except Exception as error:  # raised by the user's span processor
            log_end_error(error)

    # --- printed lines ------------------------------------------------------------------------------------------

    def printed(self, text: str) -> None:
        """Take text that the run printed, and send each complete line as a message.

        The replacement of ``sys.stdout`` calls this.
        """
        if not self._captures or self.status != "running":
            return
        lines = self.__dict__.setdefault("_lines", {})  # atomic: two threads may print at once
        stdout_capture.feed(lines, text, self._line)

    def _flush_lines(self) -> None:
        """Send the printed text without a line end as a message. Called at the end of the run."""
        if self._lines:
            stdout_capture.flush_lines(self._lines, self._line)

    def _line(self, line: str) -> None:
        emit_message(self, 20, line)
