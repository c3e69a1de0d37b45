"""The spool below otelflow: what ``flush`` and ``stats`` tell of it, and what ``configure`` hands on."""

from __future__ import annotations

import pytest
from programs import run
from spool_backend import Backend


@pytest.fixture
def backend(down: Backend) -> Backend:
    """A backend that is not up yet."""
    return down


# --- with otelflow --------------------------------------------------------------------------------------------------


def test_otelflow_tells_what_became_of_it(backend: Backend, settings: dict[str, str]) -> None:
    """flush() is false while the backend is down, with the number that waits; true when all is there; what is refused
    is lost once, with its reason."""
    source = """
    import json, threading
    configure()
    work().execute()
    report = flush(0.5)
    say(down=[bool(report), report.delivered, report.pending, report.lost])
    """
    down = run(source, **settings)
    assert down.said["down"] == [False, 0, 4, {}]
    backend.answers.extend([(200, {}, b""), (403, {}, b"")])
    backend.up()
    up = run(
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
    assert up.said["first"] == [True, 0]
    assert up.said["second"] == [False, 0, 0, {"refused": 4}]
    assert up.said["stats"].get("refused") == 4


def test_otelflow_tells_that_the_folder_was_taken_away(backend: Backend, settings: dict[str, str]) -> None:
    """What the backend had before is delivered; the rest is lost, and not delivered, however often one asks."""
    backend.answers.extend([(200, {}, b""), *[(503, {}, b"")] * 100])
    backend.up()
    done = run(
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
    assert done.said["first"] is True, done.stderr
    assert done.said["waits"] == 4
    assert done.said["after"] == [[False, 4, 0, {"spool_removed": 4}]] * 3
    assert done.said["stats"] == [8, 4, 0, {"spool_removed": 4}]
    assert len(backend.count()) == 4


def test_what_configure_is_given_reaches_the_spool(backend: Backend, settings: dict[str, str]) -> None:
    """Endpoint and headers, also for what waits in the folder since before; nothing goes where the environment says."""
    elsewhere = Backend()
    settings = {**settings, "OTEL_EXPORTER_OTLP_ENDPOINT": elsewhere.endpoint, "OTEL_EXPORTER_OTLP_HEADERS": "key=no"}
    given = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
    try:
        run(f"{given}; work().execute()", **settings)
        backend.up()
        done = run(f"{given}; work().execute(); say(all=bool(flush(20)))", **settings)
        assert (done.said, done.stderr) == ({"all": True}, "")
        assert len(backend.count()) == 8
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        done = run("configure(headers={'key': 'other'}); work().execute(); say(all=bool(flush(20)))", **settings)
        assert done.said == {"all": True}
        assert {headers["key"] for headers in elsewhere.requests} == {"other"}
        assert len(backend.count()) == 8
    finally:
        elsewhere.close()


def test_what_configure_is_given_reaches_the_overflow(backend: Backend, settings: dict[str, str]) -> None:
    """The spool that takes what the queue of another exporter has no room for sends where that one does."""
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
        given = f"configure(endpoint={backend.endpoint!r}, headers={{'key': 'yes'}})"
        done = run(f"{given}; work(100).execute(); say(all=bool(flush(20)), done=stats().delivered)", **settings)
        assert done.said == {"all": True, "done": 101}, done.stderr
        assert len(backend.count()) == 101
        assert {headers["key"] for headers in backend.requests} == {"yes"}
        assert elsewhere.requests == []
    finally:
        elsewhere.close()
