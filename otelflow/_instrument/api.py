"""``instrument()``: functions of existing code become flows and tasks, without a change to it, and bare again."""

from __future__ import annotations

import logging
import os
from types import TracebackType

from otelflow._instrument.config_file import FILE, Settings, find_config_file, from_arguments, read_config_file
from otelflow._instrument.registry import Make, Registration, instrumented_functions, register, unregister
from otelflow._instrument.targets import Problem, raise_problems
from otelflow._instrument.wrapped_call import instrumented
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["Instrumentation", "instrument", "instrument_leniently"]

_logger = logging.getLogger("otelflow")
_OF_PROGRAM = "functions of the program's own file are seen by `otelflow run FILE.py` and `otelflow run -m MODULE` only"


class Instrumentation:
    """What one :func:`instrument` did. Call it, or leave its ``with`` block, and the code is as it was before."""

    def __init__(self, claim: Registration) -> None:
        self._claim = claim

    def __call__(self) -> None:
        """Undo; a second time it does nothing. What another ``instrument()`` asked for as well stays until that is
        undone. Calls in flight end as they began."""
        unregister(self._claim)

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()

    @property
    def wrapped(self) -> list[str]:
        """The functions that are wrapped now, as ``module:qualname``, sorted; imports to come may add to them."""
        return instrumented_functions(self._claim)

    @property
    def waiting(self) -> list[str]:
        """The targets that nothing was found for so far: their modules are not imported, or there are none."""
        matches = self._claim.matches
        return [str(target) for target in self._claim.targets if not any(matches.get(target, {}).values())]

    def __repr__(self) -> str:
        return f"<Instrumentation: {len(self.wrapped)} functions wrapped, {len(self.waiting)} targets waiting>"


def instrument(
    config: str | os.PathLike[str] | None = None, *, flows: object = (), tasks: object = ()
) -> Instrumentation:
    """Make flows and tasks of functions that are named in a configuration file, or here.

    config: path of the file. Without it, and without targets here: the file that ``OTELFLOW_CONFIG`` names, or
        ``otelflow.toml`` in the current folder, or ``[tool.otelflow]`` of its ``pyproject.toml``.
    flows, tasks: targets as in the file: ``"module:qualname"``, functions, or dicts with the keys of a table.

    The functions are transparent: same signature, value and exceptions. What is not imported yet is wrapped when it
    is; nothing is imported for it. May be called while the code runs, and more than once: no function is wrapped twice.

    Returns its undo, to be called or used in a ``with``. Raises :class:`otelflow.errors.ConfigError`, with file and
    line of every mistake, and has wrapped nothing then.
    """
    settings = _settings(config, flows, tasks)
    raise_problems(settings.problems)
    claim = Registration(settings.targets)
    raise_problems(register(claim, strict=True))
    return Instrumentation(claim)


def _settings(config: str | os.PathLike[str] | None, flows: object, tasks: object) -> Settings:
    given = [from_arguments("flow", flows), from_arguments("task", tasks)]
    if config is None and not any(one.targets or one.problems for one in given):
        config = find_config_file()
        if config is None:
            raise ConfigError(
                f"There is no configuration: {OTELFLOW_CONFIG} is not set, and {os.getcwd()!r} has neither {FILE} nor "
                "[tool.otelflow] in a pyproject.toml. Name a file, or use flows=[…] and tasks=[…]."
            )
    if config is not None:
        given.insert(0, read_config_file(config))
    targets = [target for one in given for target in one.targets]
    return Settings(targets, [problem for one in given for problem in one.problems])


def instrument_leniently(main: tuple[str, ...] = (), make: Make = instrumented) -> Instrumentation | None:
    """What the start without code does: instrument as the configuration that is found says, as far as that is
    possible. Never raises; what is skipped is said in one log line. None where there is no configuration.

    main: names of the module that is about to run as the program, if its functions are looked after.
    make: what is put around functions, where it is not flows and tasks.
    """
    try:
        path = find_config_file()
        if path is None:
            return None
        settings = read_config_file(path)
        claim = Registration(settings.targets, main or ("__main__",), make)
        unseen = [] if main else [Problem(one.place, _OF_PROGRAM) for one in claim.targets if one.module == "__main__"]
        _say_skipped(settings.problems + unseen + register(claim, strict=False))
        return Instrumentation(claim)
    except Exception:
        _logger.warning("otelflow instruments nothing: its start failed", exc_info=True)
        return None


def _say_skipped(problems: list[Problem]) -> None:
    if problems:
        shown = " | ".join(map(str, problems[:10]))
        more = f" | and {len(problems) - 10} more" if len(problems) > 10 else ""
        _logger.warning("otelflow skips what its configuration asks for in vain: %s%s", shown, more)
