"""Make flows and tasks of functions in existing code, without changing that code; undo it on request."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import TracebackType

from otelflow._instrument.config_file import (
    CONFIG_FILE,
    Settings,
    find_config_file,
    read_config_file,
    settings_from_arguments,
)
from otelflow._instrument.registry import CallFactory, Registration, instrumented_functions, register, unregister
from otelflow._instrument.targets import Problem, Target, raise_problems
from otelflow._instrument.wrapped_call import make_instrumented_call
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["Instrumentation", "instrument", "instrument_leniently"]

_logger = logging.getLogger("otelflow")
_MAIN_MODULE_UNSUPPORTED = (
    "only `otelflow run FILE.py` and `otelflow run -m MODULE` can instrument functions of __main__"
)


class Instrumentation:
    """Handle of one :func:`instrument` call. Call it, or leave its ``with`` block, to restore the original code."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def __call__(self) -> None:
        """Restore the original functions. A second call does nothing.

        A function that another ``instrument()`` names too stays wrapped until that one is undone. Running calls
        keep their spans until they end.
        """
        unregister(self._registration)

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()

    @property
    def wrapped(self) -> list[str]:
        """Names of the wrapped functions, as ``module:qualname``, sorted. Later imports may add to them."""
        return instrumented_functions(self._registration)

    @property
    def waiting(self) -> list[str]:
        """Targets without any match so far: their modules are not imported yet, or do not exist."""
        matches = self._registration.matches
        return [str(target) for target in self._registration.targets if not any(matches.get(target, {}).values())]

    def __repr__(self) -> str:
        return f"<Instrumentation: {len(self.wrapped)} functions wrapped, {len(self.waiting)} targets waiting>"


def instrument(
    config: str | os.PathLike[str] | None = None, *, flows: object = (), tasks: object = ()
) -> Instrumentation:
    """Make flows and tasks of functions that a configuration file or the arguments name.

    Wrapped functions keep their signature, return value and exceptions. A function whose module is not imported yet
    is wrapped when the program imports the module; otelflow imports nothing. You may call this while the code runs,
    and more than once: no function is wrapped twice.

    Args:
        config: Path of the configuration file. Default, if there are no targets in ``flows`` and ``tasks`` either: the
            file that ``OTELFLOW_CONFIG`` names, ``otelflow.toml`` in the current folder, or ``[tool.otelflow]`` in its
            ``pyproject.toml``.
        flows: Targets that become flows: ``"module:qualname"``, functions, or dicts with the keys of a table.
        tasks: Targets that become tasks, in the same forms.

    Returns:
        A handle that restores the original code: call it, or use it in a ``with`` statement.

    Raises:
        ConfigError: The configuration has errors; the message has file and line of each. Nothing is wrapped then.
    """
    settings = _load_settings(config, flows, tasks)
    raise_problems(settings.problems)
    registration = Registration(settings.targets)
    raise_problems(register(registration, strict=True))
    return Instrumentation(registration)


def _load_settings(config: str | os.PathLike[str] | None, flows: object, tasks: object) -> Settings:
    parts = [settings_from_arguments("flow", flows), settings_from_arguments("task", tasks)]
    if config is None and not any(part.targets or part.problems for part in parts):
        config = find_config_file()
        if config is None:
            raise ConfigError(
                f"There is no configuration: {OTELFLOW_CONFIG} is not set, and {os.getcwd()!r} contains no "
                f"{CONFIG_FILE} and no pyproject.toml with [tool.otelflow]. Pass the path of a file, or flows=[…] and "
                "tasks=[…]."
            )
    if config is not None:
        parts.insert(0, read_config_file(config))
    targets = [target for part in parts for target in part.targets]
    return Settings(targets, [problem for part in parts for problem in part.problems])


def instrument_leniently(
    main: tuple[str, ...] = (), make_call: CallFactory = make_instrumented_call
) -> Instrumentation | None:
    """Instrument the functions that the configuration file names, for a start without code.

    Never raises: ignores entries with errors, and logs them in one warning.

    Args:
        main: Names of the module that is about to run as the program. Empty: functions of ``__main__`` cannot be
            instrumented.
        make_call: Makes the call of a wrapped function. Default: flows and tasks.

    Returns:
        A handle that restores the original code; None without a configuration file.
    """
    try:
        path = find_config_file()
        if path is None:
            return None
        settings = read_config_file(path)
        registration = Registration(settings.targets, main or ("__main__",), make_call)
        main_problems = [] if main else _main_problems(registration.targets)
        _warn_ignored(path, settings.problems + main_problems + register(registration, strict=False))
        return Instrumentation(registration)
    except Exception:
        _logger.warning("otelflow could not start its instrumentation; the program runs without it", exc_info=True)
        return None


def _main_problems(targets: list[Target]) -> list[Problem]:
    return [Problem(target.place, _MAIN_MODULE_UNSUPPORTED) for target in targets if target.module == "__main__"]


def _warn_ignored(path: Path, problems: list[Problem]) -> None:
    if problems:
        texts = " | ".join(map(str, problems[:10]))
        more = f" | and {len(problems) - 10} more" if len(problems) > 10 else ""
        count = "an error; this entry is" if len(problems) == 1 else f"{len(problems)} errors; these entries are"
        _logger.warning("%s has %s ignored: %s%s", path, count, texts, more)
