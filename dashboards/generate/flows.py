"""Build the dashboard *Flows*: is something broken, what is it, and since when."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from generate import parts
from generate.counting import counted, each

OF = 'job=~"$service",otelflow_flow_name=~"$flow"'
RUNS = f"otelflow_flow_duration_seconds_count{{{OF}}}"
FAILED = f'otelflow_flow_duration_seconds_count{{{OF},otelflow_status="failed"}}'
BUCKETS = f"otelflow_flow_duration_seconds_bucket{{{OF}}}"
TASKS = f"otelflow_task_duration_seconds_count{{{OF}}}"
TASKS_FAILED = f'otelflow_task_duration_seconds_count{{{OF},otelflow_status="failed"}}'
TASK_BUCKETS = f"otelflow_task_duration_seconds_bucket{{{OF}}}"
LOST = 'otelflow_dropped_total{job=~"$service",otelflow_dropped_reason=~"queue_full|export_failed|after_shutdown"}'
PRODUCED = 'last_over_time(otel_sdk_processor_span_processed_total{job=~"$service"}[$__range])'

NO_RUNS = "No flow has ended in this time"
NO_FAILURES = "None has failed"
NOT_SENT = "Not sent: OTELFLOW_METRICS"
TO_FLOW = "/d/otelflow-one-flow?${__url_time_range}&var-flow=${__data.fields.flow}"


def flows() -> dashboard.Dashboard:
    """Return the dashboard for all flows of the selected services."""
    page = parts.page(
        "otelflow-flows", "Flows", "Is something broken, what, and since when. Services that use otelflow."
    )
    for variable in (
        parts.source("metrics", "Metrics", "prometheus"),
        parts.choice("service", "Service", "otelflow_flow_duration_seconds_count, job"),
        parts.choice("flow", "Flow", 'otelflow_flow_duration_seconds_count{job=~"$service"}, otelflow_flow_name'),
        parts.source("jaeger", "Jaeger", "jaeger"),
        parts.choice("searched", "Service in Jaeger", "otelflow_flow_duration_seconds_count, job", several=False),
        parts.source("tempo", "Tempo", "tempo"),
    ):
        page = page.with_variable(variable)
    page = _numbers(page)
    page = _over_time(page.with_row(dashboard.Row("Since when")))
    page = _worst(page.with_row(dashboard.Row("What")))
    return _failures(page)


def _numbers(page: dashboard.Dashboard) -> dashboard.Dashboard:
    runs, failed = f"sum({counted(RUNS)})", f"sum({counted(FAILED)})"
    ratio = f"({failed} or {runs} * 0) / ({runs} > 0)"
    for panel in (
        parts.number(
            "Failed",
            "Share of the runs in this time that failed.",
            "percentunit",
            ratio,
            NO_RUNS,
            colours=parts.RATIO,
        ),
        parts.number(
            "Failures",
            "Runs that ended with an error.",
            "short",
            f"round({failed} or {runs} * 0)",
            NO_RUNS,
            colours=parts.NONE_IS_GOOD,
        ),
        parts.number(
            "Runs",
            "Flows that ended in this time, however.",
            "short",
            f"round({runs})",
            NO_RUNS,
        ),
        parts.number(
            "Running now",
            "Flows that have begun and not ended.",
            "short",
            f"sum(otelflow_flow_active{{{OF}}})",
            NOT_SENT,
        ),
        parts.number(
            "p95",
            "19 of 20 runs took less.",
            "s",
            f"histogram_quantile(0.95, sum by (le) ({counted(BUCKETS)}))",
            NO_RUNS,
        ),
        parts.number(
            "Spans lost",
            "Spans that did not reach the backend: what is shown below may be incomplete.",
            "short",
            f"round(sum({counted(LOST)}) or sum({PRODUCED}) * 0)",
            NOT_SENT,
            colours=parts.NONE_IS_GOOD,
        ),
    ):
        page = page.with_panel(panel)
    return page


def _over_time(page: dashboard.Dashboard) -> dashboard.Dashboard:
    lately = "$__rate_interval"
    share = f"sum by (otelflow_flow_name) ({counted(FAILED, lately)})"
    share += f" / sum by (otelflow_flow_name) ({counted(RUNS, lately)})"
    by_status = f"sum by (otelflow_status) ({each(RUNS)})"
    colours = {"completed": parts.GREEN, "failed": parts.RED, "cancelled": parts.YELLOW}
    quantiles = [
        parts.promql(
            f"histogram_quantile({share}, sum by (le) ({counted(BUCKETS, lately)}))",
            name,
            ref=ref,
            exemplar=not n,
        )
        for n, (share, name, ref) in enumerate(((0.99, "p99", "A"), (0.95, "p95", "B"), (0.5, "p50", "C")))
    ]
    by_flow = f"histogram_quantile(0.95, sum by (le, otelflow_flow_name) ({counted(BUCKETS, lately)}))"
    for panel in (
        parts.lines(
            "Runs by how they ended",
            "Flows that ended in each interval.",
            "short",
            NO_RUNS,
            parts.promql(by_status, "{{otelflow_status}}"),
            colours=colours,
            bars=True,
        ),
        parts.lines(
            "Failed, by flow",
            "Share of each flow's runs that failed.",
            "percentunit",
            NO_FAILURES,
            parts.promql(share, "{{otelflow_flow_name}}"),
        ),
        parts.lines(
            "How long runs take",
            "Median, 95 % and 99 % of all chosen flows. A dot is a run: it leads to its trace.",
            "s",
            NO_RUNS,
            *quantiles,
        ),
        parts.lines(
            "p95 by flow",
            "19 of 20 runs of the flow took less.",
            "s",
            NO_RUNS,
            parts.promql(by_flow, "{{otelflow_flow_name}}"),
        ),
        parts.heat_map(
            "How often which duration",
            "Runs by how long they took. Two bands are two kinds of runs.",
            f"sum by (le) ({each(BUCKETS)})",
            NO_RUNS,
        ),
        parts.lines(
            "Running",
            "Flows that have begun and not ended.",
            "short",
            NOT_SENT,
            parts.promql(f"sum by (otelflow_flow_name) (otelflow_flow_active{{{OF}}})", "{{otelflow_flow_name}}"),
        ),
    ):
        page = page.with_panel(panel)
    return page


def _worst(page: dashboard.Dashboard) -> dashboard.Dashboard:
    by = "otelflow_flow_name, otelflow_task_name"
    names = {"otelflow_flow_name": "flow", "otelflow_task_name": "task"}
    slow = f"topk(10, histogram_quantile(0.95, sum by (le, {by}) ({counted(TASK_BUCKETS)})))"
    most = f"topk(10, sum by ({by}, error_type) ({counted(TASKS_FAILED)}) > 0)"
    page = page.with_panel(
        parts.columns(
            "Slowest tasks",
            "The ten tasks with the largest p95.",
            "No task has ended in this time",
            {"p95": (slow, "s")},
            "p95",
            names,
            link=("flow", TO_FLOW),
        )
    )
    return page.with_panel(
        parts.columns(
            "Tasks that fail most",
            "The ten tasks with the most failures, by the class of the error.",
            NO_FAILURES,
            {"failures": (most, "short")},
            "failures",
            {**names, "error_type": "error"},
            link=("flow", TO_FLOW),
        )
    )


def _failures(page: dashboard.Dashboard) -> dashboard.Dashboard:
    found = "Flows that failed, the newest first. A line leads to its trace."
    jaeger = parts.JaegerSearch("$searched", tags="otelflow.status=failed otelflow.kind=flow")
    tempo = '{ span.otelflow.kind = "flow" && span.otelflow.status = "failed" && resource.service.name =~ "$service" }'
    page = page.with_row(dashboard.Row("Latest failures, in Jaeger"))
    page = page.with_panel(
        parts.traces(
            "Latest failures (Jaeger)",
            f'{found} Jaeger searches one service: "Service in Jaeger", above.',
            jaeger,
            parts.JAEGER,
            NO_FAILURES,
        )
    )
    row = dashboard.Row("Latest failures, in Tempo").collapsed(True)
    panel = parts.traces("Latest failures (Tempo)", found, parts.traceql(tempo), parts.TEMPO, NO_FAILURES)
    return page.with_row(row.with_panel(panel))
