"""The committed dashboards: their panels and queries, with variables filled in as Grafana does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "dashboards"
FILES = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))

FILLED = {
    "__range": "1h",
    "__rate_interval": "1m",
    "__interval": "1m",
    "service": ".+",
    "searched": "shop",
    "flow": ".*",
    "task": ".*",
}


class Query(NamedTuple):
    """A query of a panel, or of a variable; ``kind`` is the type of its data source."""

    dashboard: str
    panel: str
    kind: str
    text: str


def panels(dashboard: Any) -> Iterator[Any]:
    """All of a dashboard, those within rows as well; not the rows."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels({"panels": panel.get("panels") or []})
        else:
            yield panel


def panel_queries(**values: str) -> Iterator[Query]:
    """Each query of each panel; ``values`` for its variables, else all flows of all services."""
    for path in FILES:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for panel in panels(dashboard):
            for target in panel["targets"]:
                kind = target["datasource"]["type"]
                text = target.get("expr") or target.get("query") or json.dumps(target)
                yield Query(dashboard["title"], panel["title"], kind, filled(text, **values))


def variable_queries() -> Iterator[Query]:
    """The queries that choices are made from, as selectors."""
    for path in FILES:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert found is not None, variable["query"]
                yield Query(dashboard["title"], variable["name"], "prometheus", filled(found[1]))


def filled(text: str, **values: str) -> str:
    """The text with values for Grafana's variables. ``=`` with a pattern for a value becomes ``=~``."""
    known = {**FILLED, **values}
    text = text.replace('="$flow"', '=~"$flow"')
    known.update({name: name for name in ("metrics", "logs", "jaeger", "tempo")})
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known[found[1]], text)
