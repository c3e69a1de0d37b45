"""Who hears of events: the listeners, and the history of the newest events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import get_ident
from types import TracebackType
from typing import Any

from otelflow._runtime.drop_counts import LISTENER_ERRORS, counts
from otelflow._runtime.log_once import log_once
from otelflow._runtime.stdout_capture import quiet
from otelflow.config import OTELFLOW_HISTORY_SIZE, number_from_environment
from otelflow.errors import ArgumentError
from otelflow.events import FlowRunEvent, event_of, record_of

__all__ = ["FlowEvents", "Listener", "Listening", "flow_events"]

Listener = Callable[[FlowRunEvent], Any]
"""What is called with each event; what it returns is ignored."""


class Listening(AbstractContextManager["Listening"]):
    """The undo of :meth:`FlowEvents.listen`: call it, or use it in a ``with`` block. A second call does nothing."""

    def __init__(self, listeners: list[Listener], listener: Listener) -> None:
        self._listeners = listeners
        self._listener: Listener | None = listener

    def __call__(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None and listener in self._listeners:
            self._listeners.remove(listener)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()


class FlowEvents:
    """The place to listen to flows and tasks.

    ``event_listeners`` is a plain list that one may append to. A listener is called at once, in the order of the list,
    on the thread that emitted, with the run's context current. One that raises is logged and counted, and the next one
    is called; only KeyboardInterrupt goes through. What a listener prints reaches the terminal and is no message.
    """

    def __init__(self, history_size: int | None = None) -> None:
        if history_size is None:
            history_size = int(number_from_environment(OTELFLOW_HISTORY_SIZE, 1000))
        self.event_listeners: list[Listener] = []
        self._history: deque[tuple[Any, ...]] = deque(maxlen=history_size)
        self.remember = self._history.append

    def listen(self, listener: Listener) -> Listening:
        """Call ``listener`` with every event from now on. Returns the undo, which may be used in a ``with`` block.

        Raises :class:`otelflow.errors.ArgumentError` where it cannot be called.
        """
        if not callable(listener):
            raise ArgumentError(f"listen({listener!r}): a listener is called with each event. Use a function.")
        self.event_listeners.append(listener)
        return Listening(self.event_listeners, listener)

    def history(self) -> list[FlowRunEvent]:
        """The newest events, the oldest first: at most as many as ``OTELFLOW_HISTORY_SIZE`` says (1000).

        It needs no SDK and does not depend on sampling. It holds no return values, and of artifacts only previews.
        """
        return [event_of(record_of(kept)) for kept in tuple(self._history)]

    def clear_history(self) -> None:
        """Forget the events so far."""
        self._history.clear()

    def raise_event(self, event: FlowRunEvent) -> None:
        """Hand ``event`` to every listener."""
        thread = get_ident()
        is_outermost = thread not in quiet  # as mute() and unmute() do, without calls
        if is_outermost:
            quiet[thread] = True
        try:
            for listener in tuple(self.event_listeners):
                try:
                    listener(event)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    _report(listener, error)
        finally:
            if is_outermost and thread in quiet:  # it is not in a child that the listener forked
                del quiet[thread]


def _report(listener: Listener, error: BaseException) -> None:
    name = getattr(listener, "__qualname__", None) or type(listener).__qualname__
    counts.add(LISTENER_ERRORS)
    log_once(
        f"listener {name} {type(error).__name__}",
        "The event listener %s raised %s; the others are still called. Further errors of this kind are counted in "
        "otelflow.stats(), not logged.",
        name,
        type(error).__name__,
        exc_info=True,
    )


flow_events = FlowEvents()
"""The events of this process."""
