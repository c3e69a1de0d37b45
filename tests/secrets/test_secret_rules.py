"""Rules for secrets of one's own: names, patterns, a callback; and the time that texts take."""

from __future__ import annotations

import resource
import sys
from typing import Any

import pytest
from programs import run

from otelflow import configure
from otelflow._secrets.detect import redact
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import use_callback
from otelflow.errors import ArgumentError

# --- own rules --------------------------------------------------------------------------------------------------------

OWN = """
from otelflow.testing import capture

def attributes(**given):
    with capture() as captured:
        @task(attributes=given)
        def once():
            pass
        once()
    return {name: captured.tasks[0].attributes[name] for name in given}
"""


def own(source: str, **environment: str) -> Any:
    done = run(OWN + source, **environment)
    assert done.returncode == 0, done.stderr
    return done


def test_own_names_and_allowed_names() -> None:
    """OTELFLOW_SCRUB_NAMES and OTELFLOW_SCRUB_ALLOW, in any spelling."""
    done = own(
        "say(**attributes(patientId='a', text='iban: DE12, x', order_id='4111111111111111', id_token='b', token='c'))",
        OTELFLOW_SCRUB_NAMES="patient_id, iban",
        OTELFLOW_SCRUB_ALLOW="order_id,id_token",
    )
    assert done.said == {
        "patientId": "[redacted:name patient_id]",
        "text": "iban: [redacted:name iban], x",
        "order_id": "4111111111111111",
        "id_token": "b",
        "token": "[redacted:name token]",
    }


def test_own_patterns() -> None:
    """A wrong one is logged, and left out; the others hold, on the part of a text that is kept."""
    done = own(
        "say(**attributes(text='mail bob@example.org or ACME-1234', long='x ' * 1500 + 'ACME-1234'))",
        OTELFLOW_SCRUB_PATTERNS=r"[\w.]+@[\w.]+ ( ACME-\d+",
    )
    assert done.said["text"] == "mail [redacted:pattern 1] or [redacted:pattern 3]"
    assert "ACME-1234" not in done.said["long"]
    assert "Pattern 2 of OTELFLOW_SCRUB_PATTERNS is left out" in done.stderr


def test_a_slow_pattern_is_switched_off() -> None:
    """It cannot be stopped while it runs: it is given 2 kB at most, and only until it took too long once."""
    done = own(
        "say(**attributes(text='a' * 24 + 'b'))\nsay(again=attributes(text='a' * 24 + 'b'), dropped=stats().dropped)",
        OTELFLOW_SCRUB_PATTERNS="(a+)+$",
    )
    assert done.said["dropped"]["scrub_patterns_off"] == 1
    assert "pattern 1 of OTELFLOW_SCRUB_PATTERNS took more than 0.05 s" in done.stderr


def test_switched_off() -> None:
    """OTELFLOW_SCRUB=false leaves everything as it is; our own log stays clean. What it is not is said, and ignored."""
    assert own("say(**attributes(password='x'))", OTELFLOW_SCRUB="false").said == {"password": "x"}
    done = own("say(**attributes(password='x'))", OTELFLOW_SCRUB="maybe")
    assert done.said == {"password": "[redacted:name password]"}
    assert "OTELFLOW_SCRUB is 'maybe'" in done.stderr


@pytest.fixture
def callback() -> Any:
    yield use_callback
    use_callback(None)


def test_a_callback_decides(callback: Any) -> None:
    """It hears of each secret with its rule, and of what is left with none; None is what would stand there anyway."""
    asked: list[tuple[str, str, str]] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        asked.append((name, text, rule))
        if rule == "name token":
            return "<token>"
        return text.replace("Bob", "<name>") if not rule else None

    callback(scrub)
    assert scrub("Bob has token=abc and password=x") == "<name> has token=<token> and password=[redacted:name password]"
    assert to_attribute("pin", "Bob")[0] == "<name>"
    assert asked == [
        ("token", "abc", "name token"),
        ("password", "x", "name password"),
        ("", "Bob has token=<token> and password=[redacted:name password]", ""),
        ("pin", "Bob", ""),
    ]


def test_a_callback_that_raises(callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The default holds; it is logged once, without what it was asked about."""

    def scrub(name: str, text: str, rule: str) -> str | None:
        raise RuntimeError(text)

    callback(scrub)
    for _ in range(3):
        assert scrub("password=hunter2") == "password=[redacted:name password]"
    assert caplog.text.count("raised RuntimeError") == 1
    assert "hunter2" not in caplog.text


def test_a_callback_sees_no_more_than_is_kept(callback: Any) -> None:
    """2,048 characters at once, never 10 MB; and what it says itself is not shown to it again."""
    lengths: list[int] = []

    def scrub(name: str, text: str, rule: str) -> str | None:
        lengths.append(len(text))
        assert scrub("password=x") == "password=[redacted:name password]"
        return None

    callback(scrub)
    to_attribute("text", "some words " * 1_000_000)
    to_attribute("password", "x" * 1_000_000)
    assert max(lengths) <= 2048
    assert sum(lengths) < 10_000


def test_configure_takes_the_callback() -> None:
    """configure(scrub=...); what cannot be called is an error."""
    source = "configure(exporters=[], scrub=lambda name, text, rule: 'gone' if rule else None)"
    assert own(source + "\nsay(**attributes(password='x'))").said == {"password": "gone"}
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
    """Texts that repeat what a rule begins with, 1 MB each, in a process that gets 120 s of CPU: with a quadratic rule
    it would take hours."""
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
        source, head="import json\ndef say(**facts): print('SAID ' + json.dumps(facts))\n", timeout=300
    ).said == {"done": True}
    assert resource.getrlimit(resource.RLIMIT_CPU) != (120, 120)


def test_only_what_is_kept_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a value of 10 MB, a few kB."""
    searched: list[int] = []
    module = sys.modules["otelflow._values.scrub"]

    def counting(text: str, *rest: Any) -> str:
        searched.append(len(text))
        return redact(text, *rest)

    monkeypatch.setattr(module, "redact", counting)
    to_attribute("text", "password=x " * 1_000_000)
    to_attribute("text", {"rows": ["password=x " * 1000] * 10_000})
    assert sum(searched) < 100_000
