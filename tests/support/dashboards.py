"""Read the committed dashboards: their panels and queries, with variables replaced as Grafana does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "dashboards"
FILES = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))

DEFAULT_VALUES = {
    "__range": "1h",
    "__rate_interval": "1m",
    "__interval": "1m",
    "service": ".+",
    "searched": "shop",
    "flow": ".*",
    "task": ".*",
}


class Query(NamedTuple):
    """A query of a panel or of a variable; ``kind`` is the type of its data source."""

    dashboard: str
    panel: str
    kind: str
    text: str


def panels(dashboard: Any) -> Iterator[Any]:
    """Yield all panels of a dashboard, including those in rows, but not the rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels({"panels": panel.get("panels") or []})
        else:
            yield panel


def panel_queries(**values: str) -> Iterator[Query]:
    """Yield each query of each panel. ``values`` replace its variables; the default is all flows of all services."""
    for path in FILES:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for panel in panels(dashboard):
            for target in panel["targets"]:
                kind = target["datasource"]["type"]
                text = target.get("expr") or target.get("query") or json.dumps(target)
                yield Query(dashboard["title"], panel["title"], kind, fill_variables(text, **values))


def variable_queries() -> Iterator[Query]:
    """Yield the queries of variables, as selectors."""
    for path in FILES:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert match is not None, variable["query"]
                yield Query(dashboard["title"], variable["name"], "prometheus", fill_variables(match[1]))


def fill_variables(text: str, **values: str) -> str:
    """Replace Grafana's variables in the text. ``=`` before a pattern becomes ``=~``."""
    variables = {**DEFAULT_VALUES, **values}
    text = text.replace('="$flow"', '=~"$flow"')
    variables.update({name: name for name in ("metrics", "logs", "jaeger", "tempo")})
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables[match[1]], text)
