"""Send events to listeners, and keep a history of the newest events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import get_ident
from types import TracebackType
from typing import Any

from otelflow._runtime.drop_counts import LISTENER_ERRORS, counts
from otelflow._runtime.log_once import log_once
from otelflow._runtime.stdout_capture import muted_threads
from otelflow.config import OTELFLOW_HISTORY_SIZE, whole_number_from_environment
from otelflow.errors import ArgumentError
from otelflow.events import FlowRunEvent, event_of, record_of

__all__ = ["FlowEvents", "Listener", "Listening", "flow_events"]

Listener = Callable[[FlowRunEvent], Any]
"""A function that is called with each event. Its return value is ignored."""


class Listening(AbstractContextManager["Listening"]):
    """The registration of a listener: call it, or leave its ``with`` block, to remove the listener.

    A second call does nothing. :meth:`FlowEvents.listen` returns it.
    """

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
    """The listeners of flows and tasks, and the history of events.

    ``event_listeners`` is a plain list that programs may append to. Listeners are called at once, in the order of the
    list, on the thread that emits the event, with the run's context current. If one raises, the error is logged and
    counted, and the next one is called; only KeyboardInterrupt reaches the program. A listener may print: the text goes
    to the terminal and does not become a message.

    Args:
        history_size: number of events in the history; ``OTELFLOW_HISTORY_SIZE`` if left out.
    """

    def __init__(self, history_size: int | None = None) -> None:
        if history_size is None:
            history_size = whole_number_from_environment(OTELFLOW_HISTORY_SIZE, 1000)
        self.event_listeners: list[Listener] = []
        self._history: deque[tuple[Any, ...]] = deque(maxlen=history_size)
        self.remember = self._history.append

    def listen(self, listener: Listener) -> Listening:
        """Call ``listener`` with every event from now on.

        Args:
            listener: a function of one argument, the :class:`otelflow.FlowRunEvent`.

        Returns:
            An object that removes the listener: call it, or use it in a ``with`` block.

        Raises:
            ArgumentError: ``listener`` is not callable.
        """
        if not callable(listener):
            raise ArgumentError(f"listen({listener!r}): a listener must be callable. Use a function.")
        self.event_listeners.append(listener)
        return Listening(self.event_listeners, listener)

    def history(self) -> list[FlowRunEvent]:
        """Return the newest events. The history needs no SDK and does not depend on sampling.

        Returns:
            At most ``OTELFLOW_HISTORY_SIZE`` events (1000), the oldest first. They have no return values, and only
            previews of artifacts.
        """
        return [event_of(record_of(entry)) for entry in tuple(self._history)]

    def clear_history(self) -> None:
        """Remove all events from the history."""
        self._history.clear()

    def raise_event(self, event: FlowRunEvent) -> None:
        """Send ``event`` to every listener. The history does not keep it.

        Args:
            event: the event, which may be one that the program created.

        Raises:
            KeyboardInterrupt: a listener raised it. Other exceptions are logged and counted.
        """
        thread = get_ident()
        is_outermost = thread not in muted_threads  # the code of mute() and unmute(), inlined
        if is_outermost:
            muted_threads[thread] = True
        try:
            for listener in tuple(self.event_listeners):
                try:
                    listener(event)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    _log_listener_error(listener, error)
        finally:
            if is_outermost and thread in muted_threads:  # it is missing in a child that the listener forked
                del muted_threads[thread]


def _log_listener_error(listener: Listener, error: BaseException) -> None:
    name = getattr(listener, "__qualname__", None) or type(listener).__qualname__
    counts.add(LISTENER_ERRORS)
    log_once(
        f"listener {name} {type(error).__name__}",
        "The event listener %s raised %s. The other listeners are still called. Further errors of this kind are "
        "counted in otelflow.stats(), not logged.",
        name,
        type(error).__name__,
        exc_info=True,
    )


flow_events = FlowEvents()
"""The listeners and the history of this process."""
