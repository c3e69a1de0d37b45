"""What otelflow raises, and only when it was called wrongly: telemetry that fails never raises.

    OtelflowError
    ├── ConfigError (ValueError)     a setting or argument has a value that cannot be used
    ├── ArgumentError (TypeError)    an argument that does not exist, or of the wrong kind
    ├── NothingToRun (ValueError)    a Flow or Task was executed that has no function
    ├── NotShared                    the data of a flow was asked for in another process
    └── WorkerError                  stands for an exception that could not be brought over from a worker

Each message says what is wrong, which object it is about, and the way out.
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
    """Root of what otelflow raises itself. Exceptions of instrumented code are never wrapped in it. What a message says
    of a setting or an argument is without secrets: it ends in a log."""

    def __init__(self, *args: object) -> None:
        from otelflow._secrets.detect import redact_registered  # only on the way to an error

        super().__init__(*(redact_registered(part) if isinstance(part, str) else part for part in args))


class ConfigError(OtelflowError, ValueError):
    """A setting has a value that cannot be used. :attr:`setting` is its name; of a configuration file, :attr:`file` and
    :attr:`line` tell where the first thing that is wrong stands."""

    def __init__(self, message: str, *, setting: str = "", file: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.setting, self.file, self.line = setting, file, line


class ArgumentError(OtelflowError, TypeError):
    """A public function was called with an argument that it does not take."""


class NothingToRun(OtelflowError, ValueError):
    """A Flow or Task was executed without a function: neither a target was given nor ``main`` overridden."""


class NotShared(OtelflowError):
    """The ``data`` of a flow was used in another process than the flow's: there is no shared memory between them."""


class WorkerError(OtelflowError):
    """Stands, on a Task and in events, for an exception of a worker process that could not be unpickled here. The
    future of the job raises what its executor makes of it."""


def unknown_argument(where: str, given: Iterable[str], known: Iterable[str]) -> ArgumentError:
    """The error for keyword arguments ``given`` to ``where`` that are not among ``known``, with the nearest name."""
    names = sorted(known)
    wrong = next(name for name in given if name not in names)
    return ArgumentError(f"{where} has no argument {wrong!r}.{nearest(wrong, names)} It takes: {', '.join(names)}.")


def nearest(wrong: str, names: Iterable[object]) -> str:
    """``" Did you mean 'reserve'?"``, or nothing."""
    near = near_names(wrong, names)
    return f" Did you mean {near[0]!r}?" if near else ""


def near_names(wrong: str, names: Iterable[object], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of ``names`` that are most like ``wrong``, the nearest first. ``cutoff`` is their least likeness, from 0 to
    1."""
    from difflib import get_close_matches  # only on the way to an error: not worth its import time before

    return get_close_matches(wrong, [name for name in names if isinstance(name, str)], most, cutoff)
