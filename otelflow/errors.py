"""Define the exceptions of otelflow. It raises them only if it is called wrongly: telemetry that fails never raises.

    OtelflowError
    ├── ConfigError (ValueError)     a setting or argument has a value that cannot be used
    ├── ArgumentError (TypeError)    an argument that does not exist, or of the wrong kind
    ├── NothingToRun (ValueError)    a Flow or Task without a function was executed
    ├── NotShared                    the data of a flow was used in another process
    └── WorkerError                  replaces an exception of a worker process that could not be unpickled

Each message says what is wrong, which object it is about, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "ConfigError",
    "NotShared",
    "NothingToRun",
    "OtelflowError",
    "WorkerError",
    "unknown_argument",
]


class OtelflowError(Exception):
    """Base class of all exceptions of otelflow. Exceptions of instrumented code are never wrapped in it.

    Messages go into logs, so registered secrets are removed from the values of settings and arguments in them.
    """

    def __init__(self, *args: object) -> None:
        from otelflow._secrets.detect import redact_registered  # loaded only if an error occurs

        super().__init__(*(redact_registered(part) if isinstance(part, str) else part for part in args))


class ConfigError(OtelflowError, ValueError):
    """A setting has a value that cannot be used.

    :attr:`setting` is the name of the setting. For a configuration file, :attr:`file` and :attr:`line` are the place of
    the first mistake.
    """

    def __init__(self, message: str, *, setting: str = "", file: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.setting, self.file, self.line = setting, file, line


class ArgumentError(OtelflowError, TypeError):
    """A public function was called with an unknown argument, or with one of the wrong kind."""


class NothingToRun(OtelflowError, ValueError):
    """A Flow or Task without a function was executed: it has no target, and ``main`` is not overridden."""


class NotShared(OtelflowError):
    """The ``data`` of a flow was used outside the flow's process: processes do not share memory."""


class WorkerError(OtelflowError):
    """Replacement, on a Task and in events, for an exception of a worker process that could not be unpickled here.

    The future of the job raises whatever its executor makes of that exception.
    """


def unknown_argument(where: str, given: Iterable[str], known: Iterable[str]) -> ArgumentError:
    """Create the error for an unknown keyword argument. Its message suggests the nearest known name.

    Args:
        where: the function that was called, as in the message: ``@flow``.
        given: names of the arguments of the call; at least one is unknown.
        known: names of the arguments that the function takes.

    Returns:
        The error for the first unknown name, to be raised.
    """
    names = sorted(known)
    wrong = next(name for name in given if name not in names)
    return ArgumentError(f"{where} has no argument {wrong!r}.{nearest(wrong, names)} It takes: {', '.join(names)}.")


def nearest(wrong: str, names: Iterable[object]) -> str:
    """Return a hint for a wrong name: ``" Did you mean 'reserve'?"``; an empty text if no name is similar.

    Args:
        wrong: the wrong name.
        names: the names that exist. Objects that are not str are ignored.
    """
    near = near_names(wrong, names)
    return f" Did you mean {near[0]!r}?" if near else ""


def near_names(wrong: str, names: Iterable[object], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names that are most similar to ``wrong``.

    Args:
        wrong: the wrong name.
        names: the names that exist. Objects that are not str are ignored.
        most: the largest number of names to return.
        cutoff: the least similarity, from 0 to 1.

    Returns:
        The similar names, the most similar first.
    """
    from difflib import get_close_matches  # loaded only if an error occurs, to save import time

    return get_close_matches(wrong, [name for name in names if isinstance(name, str)], most, cutoff)
