"""Build every dashboard as the JSON that is committed."""

from __future__ import annotations

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from generate.flows import flows
from generate.itself import itself
from generate.one_flow import one_flow

__all__ = ["as_json"]


def as_json() -> dict[str, str]:
    """Return the JSON text of each dashboard by file name."""
    dashboards = {"flows.json": flows(), "one-flow.json": one_flow(), "itself.json": itself()}
    return {
        name: json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, dashboard in dashboards.items()
    }
