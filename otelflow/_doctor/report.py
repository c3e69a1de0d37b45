"""The report of a diagnosis: findings, each with a sign and advice, ordered by importance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

from otelflow._secrets.detect import REDACTED, looks_secret
from otelflow._secrets.urls import url_secrets

__all__ = [
    "DISABLED",
    "ERROR",
    "LIVE",
    "MINOR",
    "MISSPELT",
    "OK",
    "SKIPPED",
    "UNUSABLE",
    "WARNING",
    "Finding",
    "Report",
    "Secrets",
]

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"

DISABLED, MISSPELT, UNUSABLE, LIVE, MINOR = 10, 20, 30, 40, 90
"""Ranks of findings; the lowest is the first to fix.

In this order: nothing is sent at all; a misspelt variable; a value that cannot be used; the receiver's response; and
small things.
"""

_MAX_CHARACTERS = 200
"""Limit of a text from outside (a response, an exception)."""


class Finding(NamedTuple):
    """One line of a diagnosis. ``source``: where a setting comes from. ``advice``: a sentence on what to do."""

    section: str
    name: str
    sign: str
    text: str
    source: str = ""
    advice: str = ""
    rank: int = MINOR


class Report:
    """The findings of one diagnosis, in the order of the checks."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.trace_id: str | None = None
        """Trace id of the canary, once a receiver accepted it."""
        self.closing = ""
        """Advice for the case that nothing is wrong."""
        self._section = ""

    def begin(self, section: str) -> None:
        """Begin a section: the findings that follow belong to it."""
        self._section = section

    def ok(self, name: str, text: str, source: str = "") -> None:
        """Add a finding that is in order."""
        self.findings.append(Finding(self._section, name, OK, text, source))

    def skip(self, name: str, text: str, source: str = "") -> None:
        """Add a check that was skipped, or a setting that does not matter here."""
        self.findings.append(Finding(self._section, name, SKIPPED, text, source))

    def warn(self, name: str, text: str, advice: str = "", *, source: str = "", rank: int = MINOR) -> None:
        """Add a warning: it may be intended."""
        self.findings.append(Finding(self._section, name, WARNING, text, source, advice, rank))

    def error(self, name: str, text: str, advice: str, *, source: str = "", rank: int = LIVE) -> None:
        """Add an error: spans are lost, or a setting has no effect although it should."""
        self.findings.append(Finding(self._section, name, ERROR, text, source, advice, rank))

    def downgrade(self, name: str, text: str) -> None:
        """Turn the errors with this name into warnings, because they did not prevent anything."""
        self.findings = [
            finding._replace(sign=WARNING, text=f"{finding.text}; {text}", rank=MINOR)
            if finding.name == name and finding.sign == ERROR
            else finding
            for finding in self.findings
        ]

    def with_sign(self, sign: str) -> list[Finding]:
        """Return the findings with this sign, the first to fix first."""
        return sorted((finding for finding in self.findings if finding.sign == sign), key=lambda finding: finding.rank)

    def fails(self, strict: bool = False) -> bool:
        """Return whether there is an error; with ``strict``, also for a warning."""
        return bool(self.with_sign(ERROR) or (strict and self.with_sign(WARNING)))

    def first(self, strict: bool = False) -> Finding | None:
        """Return the first finding to fix; None if nothing is wrong."""
        return next(iter((*self.with_sign(ERROR), *(self.with_sign(WARNING) if strict else ()))), None)

    def next_step(self, strict: bool = False) -> str:
        """Return what to do now."""
        first = self.first(strict)
        return self.closing if first is None else first.advice or f"Fix this: {first.text}."

    def to_dict(self, strict: bool = False) -> dict[str, Any]:
        """Return the report as plain data for ``--json``."""
        return {
            "ok": not self.fails(strict),
            "next": self.next_step(strict),
            "trace_id": self.trace_id,
            "findings": [finding._asdict() for finding in self.findings],
        }


class Secrets:
    """Values that must not be shown. Removes them from texts from outside."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, values: Iterable[str]) -> None:
        """Remember values, both percent-encoded and decoded."""
        for value in values:
            # Texts of up to 3 characters are not secrets, and occur in ordinary words.
            variants = (value, unquote(value), value.split(" ")[-1])
            self._values |= {variant for variant in variants if len(variant) > 3}

    def add_url(self, url: str) -> None:
        """Remember the user and password of a URL, and the values of its query."""
        self.add(url_secrets(url))

    def redact(self, text: object) -> str:
        """Return ``text`` in one line, truncated, with remembered values redacted.

        Return only a mark if the rest looks like a secret. Control characters, which could move a terminal's cursor,
        become ``?``.
        """
        line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
        for value in sorted(self._values, key=len, reverse=True):
            line = line.replace(value, REDACTED)
        if looks_secret("", line):
            return REDACTED
        return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"
