"""Events that overflow into child spans: all arrive, and those that a sampler refuses are counted."""

from __future__ import annotations

from typing import Any

from programs import run as program
from receiver import Sink, attributes_of

from otelflow._spans.event_overflow import MAX_SPAN_BYTES

# --- in child spans -------------------------------------------------------------------------------------------------

TEXT, LEFT_OUT = "otelflow.message.text", "otelflow.dropped.events"


CARRIED = """
configure("chatty", endpoint=sys.argv[1])

@flow(flow_config=FlowRunConfig(capture_output=False, log_to_memory=False))
def chatty(number, this_flow=None):
    for line in range(number):
        this_flow.log_info(f"line {line}")
    this_flow.add_artifact(key="rows", data=[1])
    raise ValueError("the end")

try:
    chatty(int(sys.argv[2])).execute()
except ValueError:
    pass
say(delivered=bool(flush(60)), dropped=stats().dropped)
"""


def received_spans(sink: Sink) -> tuple[Any, list[Any]]:
    """Return the run's own span, and its continuation spans in order."""
    spans = [span for span, _, _ in sink.spans]
    (run_span,) = [span for span in spans if span.name == "chatty"]
    continuations = [span for span in spans if span is not run_span]
    return run_span, sorted(continuations, key=lambda span: attributes_of(span)["otelflow.continuation"])


def test_a_hundred_thousand_messages_arrive(sink: Sink) -> None:
    """Each arrives exactly once and in order, over OTLP, in child spans that are within all limits."""
    number = 100_000
    source = CARRIED.replace("sys.argv[1]", repr(sink.endpoint)).replace("sys.argv[2]", repr(number))
    result = program(source, OTELFLOW_OVERFLOW="spans", timeout=120)
    assert result.facts == {"delivered": True, "dropped": {}}, result.stderr
    run_span, continuations = received_spans(sink)
    events = [event for span in (run_span, *continuations) for event in span.events]
    texts = [attributes_of(event).get(TEXT, "") for event in events if event.name == "otelflow.message"]
    lines = [text for text in texts if text.startswith("line ")]
    assert lines == [f"line {n}" for n in range(number)]
    assert max(len(span.events) for span in continuations) == 128
    assert {(span.name, span.parent_span_id) for span in continuations} == {("chatty (continued)", run_span.span_id)}
    assert attributes_of(run_span)["otelflow.continuations"] == len(continuations)
    assert {attributes_of(span)["otelflow.flow.run_id"] for span in (run_span, *continuations)} == {
        attributes_of(run_span)["otelflow.flow.run_id"]
    }
    for span in continuations:
        times = [event.time_unix_nano for event in span.events]
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (times[0], times[-1])
    assert [event.name for event in run_span.events][-3:] == ["otelflow.artifact", "exception", "otelflow.message"]


def test_large_texts_in_child_spans(sink: Sink) -> None:
    """No span exceeds its limit in bytes, and no event is lost."""
    source = CARRIED.replace("sys.argv[1]", repr(sink.endpoint)).replace("sys.argv[2]", "300")
    result = program(source.replace('{line}"', "{line} " + "x" * 1800 + '"'), OTELFLOW_OVERFLOW="spans")
    assert result.facts == {"delivered": True, "dropped": {}}, result.stderr
    run_span, continuations = received_spans(sink)
    assert max(span.ByteSize() for span in (run_span, *continuations)) <= MAX_SPAN_BYTES
    lines = [
        text for span in (run_span, *continuations) for text in map(_text, span.events) if text.startswith("line ")
    ]
    assert [int(text.split()[1]) for text in lines] == list(range(300))


def _text(event: Any) -> str:
    return str(attributes_of(event).get(TEXT, ""))


IN_THE_KIT = """
from otelflow.testing import capture
with capture() as captured:
    @flow(flow_config=FlowRunConfig(capture_output=False))
    def chatty(this_flow=None):
        step()
        for line in range(500):
            this_flow.log_info(f"line {line}", number=line)
    chatty().execute()
captured.assert_events_agree()
captured.assert_tree("chatty\\n  step")
run = captured.flow("chatty")
say(messages=len(run.messages), number=run.messages[450].attributes, events=len(run.events),
    spans=len(captured.spans), tree=captured.tree().count("continued"))
"""


def test_the_test_kit_shows_runs() -> None:
    """A continuation span is not shown as a run: the tree is the same, and the run has all its messages and events."""
    result = program(IN_THE_KIT, OTELFLOW_OVERFLOW="spans")
    assert result.facts == {"messages": 500, "number": {"number": 450}, "events": 500, "spans": 2, "tree": 0}, (
        result.stderr
    )


REFUSED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

class NoContinuations(Sampler):
    def should_sample(self, parent_context, trace_id, name, *args, **kwargs):
        return SamplingResult(Decision.DROP if "continued" in name else Decision.RECORD_AND_SAMPLE)
    def get_description(self):
        return ""

exporter = InMemorySpanExporter()
provider = TracerProvider(sampler=NoContinuations())
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

@task
def chatty(this_task=None):
    for line in range(300):
        this_task.log_info(f"line {line}")
chatty()
(span,) = exporter.get_finished_spans()
say(events=len(span.events), lost=span.attributes["otelflow.dropped.events"], dropped=stats().dropped)
"""


def test_a_sampler_that_refuses_child_spans() -> None:
    """The events of the refused child spans are counted."""
    result = program(REFUSED, OTELFLOW_OVERFLOW="spans")
    assert result.facts == {"events": 96, "lost": 204, "dropped": {"events_over_span_limit": 204}}, result.stderr
