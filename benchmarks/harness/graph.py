"""Draw the graph in the README: bars with the cost of telemetry, as SVG for light and dark pages."""

from __future__ import annotations

from html import escape
from math import log10
from typing import Any

TITLES = {"sampled-out": "sampled out", "no-sdk": "no SDK", "wire": "end to end"}
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 760, 250, 60, 16, 6, 46
MIN_RATIO, MAX_RATIO = 0.04, 1000.0
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.muted { fill: #59636e } .title { font-weight: 600 }
.ours { fill: #1a7f37 } .hand { fill: #818b98 } .peer { fill: #bc4c00 }
.grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .muted { fill: #9198a1 }
  .ours { fill: #3fb950 } .hand { fill: #656c76 } .peer { fill: #db6d28 }
  .grid { stroke: #3d444d } .one { stroke: #9198a1 }
}
"""


def _x(ratio: float) -> float:
    """Return the x coordinate of a ratio, on a logarithmic scale."""
    position = log10(min(max(ratio, MIN_RATIO), MAX_RATIO)) - log10(MIN_RATIO)
    share = position / (log10(MAX_RATIO) - log10(MIN_RATIO))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _scale(bottom: int) -> list[str]:
    elements = []
    for ratio in (0.1, 1, 10, 100, 1000):
        kind = "one" if ratio == 1 else "grid"
        elements.append(
            f'<line class="{kind}" x1="{_x(ratio):.0f}" x2="{_x(ratio):.0f}" y1="{TOP - 8}" y2="{bottom}"/>'
        )
        label = "by hand" if ratio == 1 else f"{ratio:g}×"
        elements.append(f'<text class="muted" x="{_x(ratio):.0f}" y="{TOP - 14}" text-anchor="middle">{label}</text>')
    return elements


def _bar(group: str, row: dict[str, Any], y: int) -> list[str]:
    """Return a bar from the line of the span by hand: to the left if the row costs less, to the right if more."""
    name, ratio = row["name"], row["ratio"]
    kind = "peer" if group == "peers" else "hand" if name in ("by hand", "the SDK's minimal form") else "ours"
    label = f"{name}, {TITLES[group]}" if group in TITLES else name
    middle, one, end = y + BAR - 4, _x(1), _x(ratio)
    left, width, number = min(one, end), max(abs(end - one), 2), f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    at, anchor = (end - 6, "end") if ratio < 1 else (end + 6, "start")
    return [
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>',
        f'<text x="{at:.0f}" y="{middle}" text-anchor="{anchor}">{number}</text>',
    ]


def draw(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Return the graph of the rows of each group as SVG."""
    elements, y = [], TOP
    for group, rows in groups.items():
        for row in rows:
            if row["name"] == "by hand":  # the line in the middle
                continue
            elements += _bar(group, row, y)
            y += BAR + GAP
        y += GAP
    title = "CPU of a span, to the same span written by hand, logarithmic"
    parts = [f"<style>{STYLE}</style>", f'<text class="title" x="{LEFT}" y="16">{title}</text>', *_scale(y), *elements]
    size = f'width="{WIDTH}" height="{y + 8}" viewBox="0 0 {WIDTH} {y + 8}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n' + "\n".join(parts) + "\n</svg>\n"
