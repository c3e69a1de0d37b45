"""Test custom rules for secrets: names, patterns, a callback; and the time that a search takes."""

from __future__ import annotations

import resource
import sys
from typing import Any

import pytest
from programs import run

from otelflow import configure
from otelflow._secrets.detect import redact
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import scrub_text, use_callback
from otelflow.errors import ArgumentError

# --- custom rules -----------------------------------------------------------------------------------------------------

PROGRAM = """
from otelflow.testing import capture

def attributes(**values):
    with capture() as captured:
        @task(attributes=values)
        def step():
            pass
        step()
    return {name: captured.tasks[0].attributes[name] for name in values}
"""


def run_program(source: str, **environment: str) -> Any:
    result = run(PROGRAM + source, **environment)
    assert result.returncode == 0, result.stderr
    return result


def test_custom_names_and_allowed_names_apply() -> None:
    """OTELFLOW_SCRUB_NAMES and OTELFLOW_SCRUB_ALLOW accept any spelling of a name."""
    result = run_program(
        "say(**attributes(patientId='a', text='iban: DE12, x', order_id='4111111111111111', id_token='b', token='c'))",
        OTELFLOW_SCRUB_NAMES="patient_id, iban",
        OTELFLOW_SCRUB_ALLOW="order_id,id_token",
    )
    assert result.facts == {
        "patientId": "[redacted:name patient_id]",
        "text": "iban: [redacted:name iban], x",
        "order_id": "4111111111111111",
        "id_token": "b",
        "token": "[redacted:name token]",
    }


def test_custom_patterns_apply_and_invalid_ones_are_ignored() -> None:
    """An invalid pattern is logged and ignored. The others apply to the part of a text that is kept."""
    result = run_program(
        "say(**attributes(text='mail bob@example.org or ACME-1234', long='x ' * 1500 + 'ACME-1234'))",
        OTELFLOW_SCRUB_PATTERNS=r"[\w.]+@[\w.]+ ( ACME-\d+",
    )
    assert result.facts["text"] == "mail [redacted:pattern 1] or [redacted:pattern 3]"
    assert "ACME-1234" not in result.facts["long"]
    assert "Ignoring pattern 2 of OTELFLOW_SCRUB_PATTERNS" in result.stderr


def test_a_slow_pattern_is_disabled() -> None:
    """A running pattern cannot be stopped. So it gets at most 2 kB, and is disabled after it was too slow once."""
    result = run_program(
        "say(**attributes(text='a' * 24 + 'b'))\nsay(again=attributes(text='a' * 24 + 'b'), dropped=stats().dropped)",
        OTELFLOW_SCRUB_PATTERNS="(a+)+$",
    )
    assert result.facts["dropped"]["scrub_patterns_off"] == 1
    assert "Disabled pattern 1 of OTELFLOW_SCRUB_PATTERNS: it took more than 0.05 s" in result.stderr


def test_scrubbing_can_be_disabled() -> None:
    """OTELFLOW_SCRUB=false leaves values unchanged. An invalid value is logged and ignored."""
    assert run_program("say(**attributes(password='x'))", OTELFLOW_SCRUB="false").facts == {"password": "x"}
    result = run_program("say(**attributes(password='x'))", OTELFLOW_SCRUB="maybe")
    assert result.facts == {"password": "[redacted:name password]"}
    assert "OTELFLOW_SCRUB must be one of true, false, 1, 0; got 'maybe'" in result.stderr


@pytest.fixture
def set_callback() -> Any:
    """Yield the function that sets the callback, and remove the callback afterwards."""
    yield use_callback
    use_callback(None)


def test_a_callback_decides(set_callback: Any) -> None:
    """The callback gets each secret with its rule, and the rest of each text without one. None keeps the default."""
    calls: list[tuple[str, str, str]] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        calls.append((name, text, rule))
        if rule == "name token":
            return "<token>"
        return text.replace("Bob", "<name>") if not rule else None

    set_callback(scrub)
    text = "Bob has token=abc and password=x"
    assert scrub_text(text) == "<name> has token=<token> and password=[redacted:name password]"
    assert to_attribute("pin", "Bob")[0] == "<name>"
    assert calls == [
        ("token", "abc", "name token"),
        ("password", "x", "name password"),
        ("", "Bob has token=<token> and password=[redacted:name password]", ""),
        ("pin", "Bob", ""),
    ]


def test_a_callback_that_raises_is_logged_once(set_callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The default replacement applies. The log does not contain the callback's arguments."""

    def scrub(name: str, text: str, rule: str) -> str | None:
        raise RuntimeError(text)

    set_callback(scrub)
    for _ in range(3):
        assert scrub_text("password=hunter2") == "password=[redacted:name password]"
    assert caplog.text.count("raised RuntimeError") == 1
    assert "hunter2" not in caplog.text


def test_a_callback_gets_bounded_texts(set_callback: Any) -> None:
    """The callback gets 2,048 characters at most, never 10 MB. Its own texts are not passed to it again."""
    lengths: list[int] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        lengths.append(len(text))
        assert scrub_text("password=x") == "password=[redacted:name password]"
        return None

    set_callback(scrub)
    to_attribute("text", "some words " * 1_000_000)
    to_attribute("password", "x" * 1_000_000)
    assert max(lengths) <= 2048
    assert sum(lengths) < 10_000


def test_configure_takes_the_callback() -> None:
    """configure(scrub=...) sets the callback. A value that is not callable is an error."""
    source = "configure(exporters=[], scrub=lambda name, text, rule: 'gone' if rule else None)"
    assert run_program(source + "\nsay(**attributes(password='x'))").facts == {"password": "gone"}
    with pytest.raises(ArgumentError, match="scrub=3"):
        configure(scrub=3)  # type: ignore[arg-type]


# --- time -------------------------------------------------------------------------------------------------------------

MB = 1_000_000


HOSTILE = [
    "a", " ", "=", ":", '"', "\\", "\\\"", "password", "password=", "password=,a=", "password: ", "token='", "token=(",
    "token={", "cookie: a", "authorization: ", "authorization: Bearer ", "--token ", "<token>", "('token', ", "eyJ",
    "-eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaa-", "sk-", "sk-a", "ghp_", "://", "://a:", "://a:b", "key=[", "ya29.", "xox",
    "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN ", "4", "4 ", "4111 ", "41111111111111111", "SG.", "Q~", "9Q~",
    ":AA", "basic ", "Bearer ",
    "[redacted:", "[redacted:name password]=", "é=", "İ=token", "\x1b[0m", "\ud800",
]  # fmt: skip


def test_hostile_texts_of_1_mb_take_linear_time() -> None:
    """Texts of 1 MB repeat the start of a rule; the process may use 120 s of CPU.

    A quadratic rule would take hours.
    """
    source = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
from otelflow._secrets.detect import redact
for part in {HOSTILE!r}:
    text = (part * ({MB} // len(part) + 1))[:{MB}]
    redact(text)
    redact(text, code=True)
say(done=True)
"""
    assert run(
        source, head="import json\ndef say(**facts): print('FACTS ' + json.dumps(facts))\n", timeout=300
    ).facts == {"done": True}
    assert resource.getrlimit(resource.RLIMIT_CPU) != (120, 120)


def test_only_the_start_of_a_large_value_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kB of a value of 10 MB are searched."""
    lengths: list[int] = []
    module = sys.modules["otelflow._values.scrub"]

    def counting_redact(text: str, *rest: Any) -> str:
        lengths.append(len(text))
        return redact(text, *rest)

    monkeypatch.setattr(module, "redact", counting_redact)
    to_attribute("text", "password=x " * 1_000_000)
    to_attribute("text", {"rows": ["password=x " * 1000] * 10_000})
    assert sum(lengths) < 100_000
