"""Build the dashboard *otelflow itself*: do the other dashboards show everything?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from generate import parts
from generate.counting import counted, each

OF = 'job=~"$service"'
PRODUCED = f"otel_sdk_processor_span_processed_total{{{OF}}}"
DELIVERED = f'otel_sdk_exporter_span_exported_total{{{OF},error_type=""}}'
FAILED = f'otel_sdk_exporter_span_exported_total{{{OF},error_type!=""}}'
WAITING = f"otel_sdk_processor_span_queue_size{{{OF}}}"
DROPPED = f"otelflow_dropped_total{{{OF}}}"
EXPORTS = f"otel_sdk_exporter_operation_duration_seconds_bucket{{{OF}}}"

NOT_SENT = "Not sent: OTELFLOW_METRICS"
NONE = "Nothing was left out"


def itself() -> dashboard.Dashboard:
    """Return the dashboard for the spans between the services and the backend."""
    page = parts.page("otelflow-itself", "otelflow itself", "Whether what the other dashboards show is all there is.")
    page = page.with_variable(parts.source("metrics", "Metrics", "prometheus"))
    page = page.with_variable(parts.choice("service", "Service", "otel_sdk_processor_span_processed_total, job"))
    lost = f"round(sum({counted(PRODUCED)}) - sum({counted(DELIVERED)}) - (sum({WAITING}) or vector(0)))"
    p95 = f"histogram_quantile(0.95, sum by (le) ({counted(EXPORTS)}))"
    for panel in (
        parts.number(
            "Spans not delivered",
            "Produced, and neither delivered nor waiting. Of each exporter: two exporters have each span twice.",
            "short",
            f"clamp_min({lost}, 0)",
            NOT_SENT,
            colours=parts.NONE_IS_GOOD,
            width=6,
        ),
        parts.number(
            "Produced",
            "Spans that ended and were sampled.",
            "short",
            f"round(sum({counted(PRODUCED)}))",
            NOT_SENT,
            width=6,
        ),
        parts.number("Waiting", "Spans in the queues now.", "short", f"sum({WAITING})", NOT_SENT, width=6),
        parts.number("p95 of an export", "How long the backend takes to answer.", "s", p95, NOT_SENT, width=6),
    ):
        page = page.with_panel(panel)
    return _over_time(page)


def _over_time(page: dashboard.Dashboard) -> dashboard.Dashboard:
    lately = "$__rate_interval"
    quantiles = [
        parts.promql(f"histogram_quantile({share}, sum by (le) ({counted(EXPORTS, lately)}))", name, ref=ref)
        for share, name, ref in ((0.99, "p99", "A"), (0.5, "p50", "B"))
    ]
    for panel in (
        parts.lines(
            "Produced and delivered",
            "Spans in each interval. The lines lie on one another where all is well.",
            "short",
            NOT_SENT,
            parts.promql(f"sum({each(PRODUCED)})", "produced"),
            parts.promql(f"sum({each(DELIVERED)})", "delivered", ref="B"),
            parts.promql(f"sum({each(FAILED)})", "not accepted", ref="C"),
            colours={"delivered": parts.GREEN, "not accepted": parts.RED},
        ),
        parts.lines(
            "Left out, by reason",
            "queue_full: more came than could be sent. export_failed: the backend did not take it. The rest is cut "
            "values, and events above a limit.",
            "short",
            NONE,
            parts.promql(f"sum by (otelflow_dropped_reason) ({each(DROPPED)})", "{{otelflow_dropped_reason}}"),
            bars=True,
        ),
        parts.lines(
            "Waiting, by service",
            "Spans in the queues. Above 50,000 (OTELFLOW_QUEUE_SIZE) the oldest are dropped.",
            "short",
            NOT_SENT,
            parts.promql(f"sum by (job, otel_component_name) ({WAITING})", "{{job}} to {{otel_component_name}}"),
        ),
        parts.lines("How long an export takes", "Median and 99 %.", "s", NOT_SENT, *quantiles),
    ):
        page = page.with_panel(panel)
    return page
