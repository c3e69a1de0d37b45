"""Build the dashboard *One flow*: its tasks, and how it ran a week ago."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from generate import parts
from generate.counting import counted, each

OF = 'job=~"$service",otelflow_flow_name="$flow"'
RUNS = f"otelflow_flow_duration_seconds_count{{{OF}}}"
FAILED = f'otelflow_flow_duration_seconds_count{{{OF},otelflow_status="failed"}}'
BUCKETS = f"otelflow_flow_duration_seconds_bucket{{{OF}}}"
TASK = f'{OF},otelflow_task_name=~"$task"'
TASKS = "otelflow_task_duration_seconds"

NO_RUNS = "The flow has not run in this time"
NO_TASKS = "No task has ended in this time"
BEFORE = "Nothing from a week ago"


def one_flow() -> dashboard.Dashboard:
    """Return the dashboard for one flow and its tasks."""
    page = parts.page("otelflow-one-flow", "One flow", "What a flow consists of, and how it was a week ago.")
    flow = 'otelflow_flow_duration_seconds_count{job=~"$service"}, otelflow_flow_name'
    task = f'{TASKS}_count{{job=~"$service",otelflow_flow_name="$flow"}}, otelflow_task_name'
    for variable in (
        parts.source("metrics", "Metrics", "prometheus"),
        parts.choice("service", "Service", "otelflow_flow_duration_seconds_count, job"),
        parts.choice("flow", "Flow", flow, several=False),
        parts.choice("task", "Task", task),
        parts.source("logs", "Logs", "loki"),
        parts.source("jaeger", "Jaeger", "jaeger"),
        parts.choice("searched", "Service in Jaeger", "otelflow_flow_duration_seconds_count, job", several=False),
        parts.source("tempo", "Tempo", "tempo"),
    ):
        page = page.with_variable(variable)
    page = _compared(page)
    page = _tasks(page.with_row(dashboard.Row("Its tasks")))
    return _runs(page)


def _compared(page: dashboard.Dashboard) -> dashboard.Dashboard:
    def share(then: str) -> str:
        failed, runs = (f"sum({counted(of, ago=then)})" for of in (FAILED, RUNS))
        return f"({failed} or {runs} * 0) / ({runs} > 0)"

    def p95(then: str) -> str:
        return f"histogram_quantile(0.95, sum by (le) ({counted(BUCKETS, ago=then)}))"

    def lately(then: str) -> str:
        return f"histogram_quantile(0.95, sum by (le) ({counted(BUCKETS, '$__rate_interval', then)}))"

    ago, long = "1w", "In the same time, a week before."
    for panel in (
        parts.number(
            "Failed", "Share of its runs that failed.", "percentunit", share(""), NO_RUNS, colours=parts.RATIO
        ),
        parts.number("Failed, a week ago", long, "percentunit", share(ago), BEFORE),
        parts.number("p95", "19 of 20 runs took less.", "s", p95(""), NO_RUNS),
        parts.number("p95, a week ago", long, "s", p95(ago), BEFORE),
        parts.number("Runs", "How often it ended.", "short", f"round(sum({counted(RUNS)}))", NO_RUNS),
        parts.number("Runs, a week ago", long, "short", f"round(sum({counted(RUNS, ago=ago)}))", BEFORE),
        parts.lines(
            "How long it takes",
            "p95, and p95 a week before. A dot is a run: it leads to its trace.",
            "s",
            NO_RUNS,
            parts.promql(lately(""), "now", exemplar=True),
            parts.promql(lately(ago), "a week ago", ref="B"),
            colours={"a week ago": parts.GREY},
        ),
        parts.lines(
            "How often it runs",
            "Runs in each interval, and a week before.",
            "short",
            NO_RUNS,
            parts.promql(f"sum({each(RUNS)})", "now"),
            parts.promql(f"sum({each(RUNS, ago)})", "a week ago", ref="B"),
            colours={"a week ago": parts.GREY},
        ),
        parts.heat_map(
            "How often which duration",
            "Its runs by how long they took. Two bands are two kinds of runs.",
            f"sum by (le) ({each(BUCKETS)})",
            NO_RUNS,
        ),
        parts.lines(
            "Runs by how they ended",
            "In each interval.",
            "short",
            NO_RUNS,
            parts.promql(f"sum by (otelflow_status) ({each(RUNS)})", "{{otelflow_status}}"),
            colours={"completed": parts.GREEN, "failed": parts.RED, "cancelled": parts.YELLOW},
            bars=True,
        ),
    ):
        page = page.with_panel(panel)
    return page


def _tasks(page: dashboard.Dashboard) -> dashboard.Dashboard:
    def of_tasks(part: str) -> str:
        return f"{TASKS}_{part}{{{TASK}}}"

    def lately(then: str) -> str:
        buckets = counted(of_tasks("bucket"), "$__rate_interval", then)
        return f"histogram_quantile(0.95, sum by (le, otelflow_task_name) ({buckets}))"

    by = "sum by (otelflow_task_name)"
    spent = f"{by} ({counted(of_tasks('sum'))})"
    buckets = f"sum by (le, otelflow_task_name) ({counted(of_tasks('bucket'))})"
    time_of = f"{by} ({each(of_tasks('sum'))})"
    failed = f'{TASKS}_count{{{TASK},otelflow_status="failed"}}'
    page = page.with_panel(
        parts.columns(
            "Tasks",
            "What the flow's time goes into. Tasks within tasks count in both; tasks at once add up to more.",
            NO_TASKS,
            {
                "total time": (spent, "s"),
                "runs": (f"round({by} ({counted(of_tasks('count'))}))", "short"),
                "failed": (f"round({by} ({counted(failed)}))", "short"),
                "p50": (f"histogram_quantile(0.5, {buckets})", "s"),
                "p95": (f"histogram_quantile(0.95, {buckets})", "s"),
            },
            "total time",
            {"otelflow_task_name": "task"},
        )
    )
    page = page.with_panel(
        parts.lines(
            "Where the time goes",
            "Seconds that each task took, in each interval.",
            "s",
            NO_TASKS,
            parts.promql(time_of, "{{otelflow_task_name}}"),
            bars=True,
        )
    )
    page = page.with_panel(
        parts.lines(
            "p95 by task, and a week ago",
            "19 of 20 calls of the task took less.",
            "s",
            NO_TASKS,
            parts.promql(lately(""), "{{otelflow_task_name}}", exemplar=True),
            parts.promql(lately("1w"), "{{otelflow_task_name}}, a week ago", ref="B"),
        )
    )
    return page.with_panel(
        parts.lines(
            "Failures by task",
            "In each interval, by the class of the error.",
            "short",
            "None has failed",
            parts.promql(
                f"sum by (otelflow_task_name, error_type) ({each(failed)})",
                "{{otelflow_task_name}}: {{error_type}}",
            ),
            bars=True,
        )
    )


def _runs(page: dashboard.Dashboard) -> dashboard.Dashboard:
    about = '{service_name=~"$service"} | otelflow_flow_name="$flow"'
    page = page.with_row(dashboard.Row("What it said and made")).with_panel(
        parts.log_lines(
            "Messages and artifacts",
            "As log records, each with its trace: where services run with OTELFLOW_EVENTS=both.",
            about,
            "Nothing was said, or it is not sent as log records: OTELFLOW_EVENTS=both",
        )
    )
    said = "The flow's runs, the newest first. A line leads to its trace."
    page = page.with_row(dashboard.Row("Its traces, in Jaeger")).with_panel(
        parts.traces("Traces (Jaeger)", said, parts.JaegerSearch("$searched", operation="$flow"), parts.JAEGER, NO_RUNS)
    )
    query = '{ span.otelflow.kind = "flow" && name = "$flow" }'
    panel = parts.traces("Traces (Tempo)", said, parts.traceql(query), parts.TEMPO, NO_RUNS)
    return page.with_row(dashboard.Row("Its traces, in Tempo").collapsed(True).with_panel(panel))
