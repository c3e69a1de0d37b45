"""``Flow_Run__Config``: the original's configuration of a flow, which may be changed at any time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from otelflow.compat._plain import Plain
from otelflow.config import DEFAULT_CONFIG
from otelflow.errors import ConfigError

__all__ = ["Flow_Run__Config"]


@dataclass
class Flow_Run__Config(Plain):  # the original's spelling
    """The original's ten settings, then five settings that otelflow reads.

    Raises:
        otelflow.errors.ConfigError: A setting is unknown, in the call or in an assignment. It is a ``ValueError``.
    """

    add_task_to_self: bool = True
    log_to_console: bool = False
    log_to_memory: bool = True
    logging_enabled: bool = True
    print_logs: bool = False
    print_none_return_value: bool = False
    print_finished_message: bool = False
    print_error_stack_trace: bool = False
    raise_flow_error: bool = True
    flow_data__capture_events: bool = False

    log_level: int = field(default=logging.DEBUG, repr=False)
    capture_output: bool | None = field(default=True, repr=False)
    started_marker: bool | None = field(default=None, repr=False)
    max_messages: int = field(default=DEFAULT_CONFIG.max_messages, repr=False)
    max_tasks: int = field(default=DEFAULT_CONFIG.max_tasks, repr=False)

    def __new__(cls, *_: Any, **settings: Any) -> Flow_Run__Config:
        unknown = settings.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            names = ", ".join(sorted(cls.__dataclass_fields__))
            raise ConfigError(f"Flow_Run__Config has no attribute {sorted(unknown)[0]!r}. It has: {names}.")
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            names = ", ".join(sorted(self.__dataclass_fields__))
            raise ConfigError(f"Flow_Run__Config has no attribute {name!r}. It has: {names}.")
        super().__setattr__(name, value)
