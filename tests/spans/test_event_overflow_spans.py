"""Events that overflow into child spans: all arrive, whatever the sampler."""

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


def received(sink: Sink) -> tuple[Any, list[Any]]:
    """The run's own span, and those that continue it, in order."""
    spans = [span for span, _, _ in sink.spans]
    (own,) = [span for span in spans if span.name == "chatty"]
    others = [span for span in spans if span is not own]
    return own, sorted(others, key=lambda span: attributes_of(span)["otelflow.continuation"])


def test_a_hundred_thousand_messages_arrive(sink: Sink) -> None:
    """Each exactly once and in order, over OTLP, in child spans of the run's that are within all limits."""
    number = 100_000
    source = CARRIED.replace("sys.argv[1]", repr(sink.endpoint)).replace("sys.argv[2]", repr(number))
    done = program(source, OTELFLOW_OVERFLOW="spans", timeout=120)
    assert done.said == {"delivered": True, "dropped": {}}, done.stderr
    own, others = received(sink)
    events = [event for span in (own, *others) for event in span.events]
    texts = [attributes_of(event).get(TEXT, "") for event in events if event.name == "otelflow.message"]
    lines = [text for text in texts if text.startswith("line ")]
    assert lines == [f"line {n}" for n in range(number)]
    assert max(len(span.events) for span in others) == 128
    assert {(span.name, span.parent_span_id) for span in others} == {("chatty (continued)", own.span_id)}
    assert attributes_of(own)["otelflow.continuations"] == len(others)
    assert {attributes_of(span)["otelflow.flow.run_id"] for span in (own, *others)} == {
        attributes_of(own)["otelflow.flow.run_id"]
    }
    for span in others:
        times = [event.time_unix_nano for event in span.events]
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (times[0], times[-1])
    assert [event.name for event in own.events][-3:] == ["otelflow.artifact", "exception", "otelflow.message"]


def test_large_texts_in_child_spans(sink: Sink) -> None:
    """No span has more bytes than a span may have, and nothing is lost."""
    source = CARRIED.replace("sys.argv[1]", repr(sink.endpoint)).replace("sys.argv[2]", "300")
    done = program(source.replace('{line}"', "{line} " + "x" * 1800 + '"'), OTELFLOW_OVERFLOW="spans")
    assert done.said == {"delivered": True, "dropped": {}}, done.stderr
    own, others = received(sink)
    assert max(span.ByteSize() for span in (own, *others)) <= MAX_SPAN_BYTES
    lines = [text for span in (own, *others) for text in map(_text, span.events) if text.startswith("line ")]
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
    """What continues a run is no run: the tree is the same, and the run has all its messages and events."""
    done = program(IN_THE_KIT, OTELFLOW_OVERFLOW="spans")
    assert done.said == {"messages": 500, "number": {"number": 450}, "events": 500, "spans": 2, "tree": 0}, done.stderr


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
    """What they would have carried is counted."""
    done = program(REFUSED, OTELFLOW_OVERFLOW="spans")
    assert done.said == {"events": 96, "lost": 204, "dropped": {"events_over_span_limit": 204}}, done.stderr
