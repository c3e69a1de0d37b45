"""otelflow with the spool: the counts in ``flush`` and ``stats``, and the arguments of ``configure``."""

from __future__ import annotations

import pytest
from programs import run
from spool_backend import Backend


@pytest.fixture
def backend(stopped_backend: Backend) -> Backend:
    """A backend that is not up yet."""
    return stopped_backend


def test_otelflow_reports_pending_and_lost_spans(backend: Backend, settings: dict[str, str]) -> None:
    """While the backend is down, flush() is false and counts the pending spans. It is true when all have arrived.
    Refused spans count as lost once, with their reason."""
    source = """
    import json, threading
    configure()
    work().execute()
    report = flush(0.5)
    say(down=[bool(report), report.delivered, report.pending, report.lost])
    """
    first = run(source, **settings)
    assert first.facts["down"] == [False, 0, 4, {}]
    backend.answers.extend([(200, {}, b""), (403, {}, b"")])
    backend.up()
    second = run(
        """
        configure()
        first = flush(20)
        work().execute()
        report = flush(20)
        say(first=[bool(first), first.pending], second=[bool(report), report.delivered, report.pending, report.lost])
        say(stats=stats().dropped)
        """,
        **settings,
    )
    assert second.facts["first"] == [True, 0]
    assert second.facts["second"] == [False, 0, 0, {"refused": 4}]
    assert second.facts["stats"].get("refused") == 4


def test_otelflow_reports_a_removed_folder(backend: Backend, settings: dict[str, str]) -> None:
    """Spans that the backend had before count as delivered. The rest counts as lost, at each call."""
    backend.answers.extend([(200, {}, b""), *[(503, {}, b"")] * 100])
    backend.up()
    process = run(
        """
        import shutil
        configure()
        work().execute()
        say(first=bool(flush(20)))
        work().execute()
        say(waits=flush(0.5).pending)
        shutil.rmtree(os.environ["OTELFLOW_EXPORTER_SPOOL_DIR"])
        reports = [flush(20), flush(20), shutdown(20)]
        say(after=[[bool(report), report.delivered, report.pending, report.lost] for report in reports])
        say(stats=[stats().produced, stats().delivered, stats().pending, stats().dropped])
        """,
        **settings,
    )
    assert process.facts["first"] is True, process.stderr
    assert process.facts["waits"] == 4
    assert process.facts["after"] == [[False, 4, 0, {"spool_removed": 4}]] * 3
    assert process.facts["stats"] == [8, 4, 0, {"spool_removed": 4}]
    assert len(backend.count()) == 4


def test_the_spool_uses_the_arguments_of_configure(backend: Backend, settings: dict[str, str]) -> None:
    """It uses endpoint and headers, also for spans that were in the folder before, and not the environment's values."""
    elsewhere = Backend()
    settings = {**settings, "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "key=no"}
    configure = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
    try:
        run(f"{configure}; work().execute()", **settings)
        backend.up()
        process = run(f"{configure}; work().execute(); say(all=bool(flush(20)))", **settings)
        assert (process.facts, process.stderr) == ({"all": True}, "")
        assert len(backend.count()) == 8
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        process = run("configure(headers={'key': 'other'}); work().execute(); say(all=bool(flush(20)))", **settings)
        assert process.facts == {"all": True}
        assert {headers["key"] for headers in elsewhere.requests} == {"other"}
        assert len(backend.count()) == 8
    finally:
        elsewhere.close()


def test_the_overflow_spool_uses_the_arguments_of_configure(backend: Backend, settings: dict[str, str]) -> None:
    """A spool for the overflow of another exporter's queue sends to the same endpoint as that exporter."""
    backend.up()
    backend.answers.extend([(503, {"Retry-After": "1"}, b"")])
    elsewhere = Backend()
    settings = {
        **settings,
        "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.endpoint,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTELFLOW_WHEN_FULL": "spool",
        "OTELFLOW_QUEUE_SIZE": "4",
    }
    try:
        configure = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
        process = run(f"{configure}; work(100).execute(); say(all=bool(flush(20)), done=stats().delivered)", **settings)
        assert process.facts == {"all": True, "done": 101}, process.stderr
        assert len(backend.count()) == 101
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        assert elsewhere.requests == []
    finally:
        elsewhere.close()
