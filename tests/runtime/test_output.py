"""Test captured output: lines of concurrent runs never mix, the terminal gets all text, sys.stdout is restored."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from typing import Any

import pytest

from otelflow import FlowRunConfig, flow, flow_events, task


@task
def prints(name: str) -> None:
    """Print a line in pieces."""
    for part in (name, " says", " hello\n"):
        sys.stdout.write(part)


def test_concurrent_runs_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty flows in threads and fifty on one event loop each get only their own lines."""

    @flow
    def flow_in_thread(name: str) -> None:
        for _ in range(20):
            prints(name)

    @flow
    async def flow_on_loop(name: str) -> None:
        for _ in range(20):
            prints(name)
            await asyncio.sleep(0)

    runs: list[Any] = []

    def in_thread(name: str) -> None:
        runs.append((name, flow_in_thread(name).execute()))

    async def on_loop() -> None:
        flows = [flow_on_loop(f"loop {number}") for number in range(50)]
        for name, run in zip(range(50), await asyncio.gather(*(item.execute_async() for item in flows)), strict=True):
            runs.append((f"loop {name}", run))

    threads = [threading.Thread(target=in_thread, args=(f"thread {number}",)) for number in range(50)]
    for thread in threads:
        thread.start()
    asyncio.run(on_loop())
    for thread in threads:
        thread.join()
    assert len(runs) == 100
    for name, run in runs:
        assert run.messages == [f"{name} says hello"] * 20
    assert capsys.readouterr().out.count("hello") == 2000


def test_a_print_outside_a_flow_reaches_only_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread without a flow prints only to the terminal, even while a flow captures."""

    @flow
    def starts() -> None:
        thread = threading.Thread(target=print, args=("outside",))
        thread.start()
        thread.join()

    assert starts().execute().messages == []
    assert capsys.readouterr().out == "outside\n"


def test_an_unfinished_line_is_a_message_at_the_end() -> None:
    """Text without a line end is not lost."""

    @flow
    def unfinished() -> None:
        print("no end", end="")

    assert unfinished().execute().messages == ["no end"]


def test_redirected_output_is_the_users_own() -> None:
    """Inside redirect_stdout, lines go only to the user's stream."""
    buffer = io.StringIO()

    @flow
    def redirects() -> None:
        with contextlib.redirect_stdout(buffer):
            print("into the buffer")
        print("to the terminal")

    assert redirects().execute().messages == ["to the terminal"]
    assert buffer.getvalue() == "into the buffer\n"


def test_the_tee_has_all_attributes_of_the_stream(capfd: pytest.CaptureFixture[str]) -> None:
    """encoding, fileno and buffer are those of the stream, and writing bytes works."""
    before = sys.stdout

    @flow
    def asks() -> Any:
        sys.stdout.buffer.write(b"bytes\n")
        sys.stdout.flush()
        return sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.isatty()

    assert asks().execute().return_value == (before.encoding, before.fileno(), before.isatty())
    assert sys.stdout is before
    assert "bytes\n" in capfd.readouterr().out


def test_a_very_long_line_becomes_several_messages() -> None:
    """A line without an end does not grow in memory for ever."""

    @flow
    def floods() -> None:
        for _ in range(30):
            print("x" * 10_000, end="")

    messages = floods().execute().messages
    assert sum(map(len, messages)) == 300_000
    assert max(map(len, messages)) < 80_000


def test_nested_flows_have_their_own_lines() -> None:
    """A nested flow gets its own lines, and the outer flow continues to capture after it."""

    @flow
    def inner() -> None:
        print("inner")

    @flow
    def outer() -> Any:
        print("before")
        run = inner().execute()
        print("after")
        return run

    run: Any = outer().execute()
    assert (run.messages, run.return_value.messages) == (["before", "after"], ["inner"])


def test_a_closed_stream_raises_as_outside_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """print to a closed stream raises in a flow as outside."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    def writes() -> None:
        print("x")

    assert isinstance(writes().execute().error, ValueError)
    assert sys.stdout is stream
    monkeypatch.undo()


def test_listener_output_is_no_message_after_threading_is_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gevent may patch ``get_ident`` after the import of otelflow.

    Then a listener would get its own line as an event.
    """
    types: list[str] = []

    def listener(event: Any) -> None:
        types.append(event.event_type.value)
        print("from the listener")

    @flow
    def run() -> None:
        print("from the flow")

    monkeypatch.setattr(threading, "get_ident", lambda: 7)
    with flow_events.listen(listener):
        run().execute()
    assert types == ["flow_start", "flow_message", "flow_stop"]
