"""Queries, panels and variables that all dashboards are built from.

Data sources are variables, so that a dashboard works with any names of data sources. Every panel needs a title, a
description, a unit, and the text that it shows without data.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, logs, loki, prometheus, stat, table, tempo, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

METRICS = models.DataSourceRef(type_val="prometheus", uid="${metrics}")
LOGS = models.DataSourceRef(type_val="loki", uid="${logs}")
JAEGER = models.DataSourceRef(type_val="jaeger", uid="${jaeger}")
TEMPO = models.DataSourceRef(type_val="tempo", uid="${tempo}")

GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "text"
WIDTH = 24


class JaegerSearch(Dataquery):
    """A search in Jaeger. The SDK has no builder for it; its fields are those of Grafana's Jaeger data source."""

    def __init__(self, service: str, operation: str = "", tags: str = "", limit: int = 20) -> None:
        self._fields = {
            "refId": "A",
            "datasource": JAEGER,
            "queryType": "search",
            "service": service,
            "operation": operation,
            "tags": tags,
            "limit": limit,
        }

    def build(self) -> JaegerSearch:
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the query as it stands in the dashboard."""
        return {key: value for key, value in self._fields.items() if value != ""}


def promql(expression: str, legend: str = "", *, ref: str = "A", exemplar: bool = False) -> prometheus.Dataquery:
    """Return a query over the selected time range."""
    query = prometheus.Dataquery().datasource(METRICS).expr(expression).legend_format(legend).ref_id(ref).range()
    # Services send each minute (OTEL_METRIC_EXPORT_INTERVAL), and Grafana's $__rate_interval is four times this value.
    # With the default of 15 s it would be one minute, which rarely has two samples.
    query = query.interval("1m")
    return query.exemplar(True) if exemplar else query


def heat(expression: str) -> prometheus.Dataquery:
    """Return a query for the buckets of a histogram, for a heat map."""
    query = promql(expression, "{{le}}")
    return query.format(prometheus_models.PromQueryFormat.HEATMAP)


def promql_now(expression: str, *, ref: str = "A") -> prometheus.Dataquery:
    """Return a query for one value, at the end of the selected time range."""
    query = prometheus.Dataquery().datasource(METRICS).expr(expression).ref_id(ref).instant()
    return query.format(prometheus_models.PromQueryFormat.TABLE)


def logql(expression: str) -> loki.Dataquery:
    """Return a query for log lines, the newest first."""
    return loki.Dataquery().datasource(LOGS).expr(expression).ref_id("A").max_lines(200)


def traceql(expression: str) -> tempo.TempoQuery:
    """Return a search in Tempo."""
    query = tempo.TempoQuery().datasource(TEMPO).query_type("traceql").query(expression).limit(20).ref_id("A")
    return query.filters([])


# --- panels -----------------------------------------------------------------------------------------------------------


def steps(*limits: tuple[float | None, str]) -> build.ThresholdsConfig:
    """Return colours by value; the first has no limit."""
    thresholds = [dashboard.Threshold(value=value, color=color) for value, color in limits]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


ALWAYS_GREY = ((None, GREY),)
NONE_IS_GOOD: tuple[tuple[float | None, str], ...] = ((None, GREEN), (1, RED))
RATIO: tuple[tuple[float | None, str], ...] = ((None, GREEN), (0.01, YELLOW), (0.05, RED))


def number(
    title: str,
    description: str,
    unit: str,
    query: str,
    empty: str,
    *,
    colours: tuple[tuple[float | None, str], ...] = ALWAYS_GREY,
    width: int = 4,
) -> stat.Panel:
    """Return a panel with one large number."""
    panel = stat.Panel().title(title).description(description).unit(unit).no_value(empty).datasource(METRICS)
    panel = panel.with_target(promql_now(query)).thresholds(steps(*colours)).span(width).height(4)
    return panel.graph_mode(models.BigValueGraphMode.NONE)


def lines(
    title: str,
    description: str,
    unit: str,
    empty: str,
    *queries: prometheus.Dataquery,
    width: int = 12,
    height: int = 8,
    colours: dict[str, str] | None = None,
    bars: bool = False,
) -> timeseries.Panel:
    """Return a panel with values over time; ``colours`` maps names of the legend to colours."""
    panel = timeseries.Panel().title(title).description(description).unit(unit).no_value(empty).datasource(METRICS)
    legend = (
        common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM)
    )
    panel = panel.legend(legend.show_legend(True)).span(width).height(height).fill_opacity(15).min(0)
    tooltip = common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING)
    panel = panel.tooltip(tooltip).targets(list(queries)).span_nulls(False)
    if bars:
        stacked = common.StackingConfig().mode(models.StackingMode.NORMAL)
        panel = panel.draw_style(models.GraphDrawStyle.BARS).stacking(stacked).fill_opacity(80)
    for name, colour in (colours or {}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def heat_map(title: str, description: str, query: str, empty: str, *, width: int = 12) -> heatmap.Panel:
    """Return a heat map of durations over time."""
    panel = heatmap.Panel().title(title).description(description).unit("short").no_value(empty).datasource(METRICS)
    axis = heatmap.YAxisConfig().unit("s")
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return panel.with_target(heat(query)).y_axis(axis).color(colour).span(width).height(8).exemplars_color("blue")


def columns(
    title: str,
    description: str,
    empty: str,
    queries: dict[str, tuple[str, str]],
    sort: str,
    names: dict[str, str],
    *,
    width: int = 12,
    link: tuple[str, str] | None = None,
) -> table.Panel:
    """Return a table: ``queries`` by column, each with its unit; rows by the labels in ``names`` (label to heading)."""
    panel = table.Panel().title(title).description(description).no_value(empty).datasource(METRICS).unit("short")
    headings = dict(names)
    for ref, (heading, (query, _)) in zip("ABCDEFGH", queries.items(), strict=False):
        panel = panel.with_target(promql_now(query, ref=ref))
        headings["Value" if len(queries) == 1 else f"Value #{ref}"] = heading
    panel = panel.with_transformation(_transformation("merge"))
    panel = panel.with_transformation(
        _transformation("organize", excludeByName={"Time": True}, renameByName=headings, indexByName=_order(headings))
    )
    for heading, (_, unit) in queries.items():
        panel = panel.override_by_name(heading, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    if link is not None:
        heading, url = link
        links = [{"title": "One flow", "url": url}]
        panel = panel.override_by_name(heading, [dashboard.DynamicConfigValue(id_val="links", value=links)])
    by = common.TableSortByFieldState().display_name(sort).desc(True)
    return panel.sort_by([by]).span(width).height(8)


def _transformation(name: str, **options: Any) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=name, options=options)


def _order(headings: dict[str, str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(headings)}


def traces(title: str, description: str, query: Any, source: models.DataSourceRef, empty: str) -> table.Panel:
    """Return a table of the traces that a search finds, each with a link to the trace."""
    panel = table.Panel().title(title).description(description).no_value(empty).datasource(source).unit("short")
    return panel.with_target(query).span(WIDTH).height(8)


def log_lines(title: str, description: str, expression: str, empty: str) -> logs.Panel:
    """Return a panel with log lines in their order."""
    panel = logs.Panel().title(title).description(description).no_value(empty).datasource(LOGS).unit("short")
    panel = panel.show_time(True).wrap_log_message(True).sort_order(models.LogsSortOrder.DESCENDING)
    return panel.enable_log_details(True).with_target(logql(expression)).span(WIDTH).height(8)


# --- around the panels ------------------------------------------------------------------------------------------------


def source(name: str, label: str, kind: str) -> build.DatasourceVariable:
    """Return a variable for a data source; its first value is the default source of its kind."""
    return build.DatasourceVariable(name).label(label).type(kind)


def choice(name: str, label: str, label_of_metric: str, *, several: bool = True) -> build.QueryVariable:
    """Return a variable with the values of a label, which Prometheus is queried for."""
    variable = build.QueryVariable(name).label(label).datasource(METRICS).query(f"label_values({label_of_metric})")
    variable = variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort(1))
    # Loki rejects a selector that can match an empty value everywhere; a task may run outside any flow.
    everything = ".+" if name == "service" else ".*"
    return variable.multi(True).include_all(True).all_value(everything) if several else variable


def page(uid: str, title: str, description: str) -> build.Dashboard:
    """Return a dashboard without panels. Its links to the other dashboards keep the time range and the variables."""
    others = build.DashboardLink("otelflow").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["otelflow"])
    board = build.Dashboard(title).uid(uid).description(description).tags(["otelflow"]).editable()
    board = board.link(others.as_dropdown(True).keep_time(True).include_vars(True)).refresh("30s").time("now-3h", "now")
    return board.tooltip(dashboard.DashboardCursorSync.CROSSHAIR).timezone("browser")
