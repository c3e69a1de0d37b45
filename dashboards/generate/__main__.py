"""``python -m generate`` in the folder ``dashboards``: write the dashboards that Grafana is provisioned with."""

from __future__ import annotations

from pathlib import Path

from generate.all import as_json

FOLDER = Path(__file__).parent.parent / "grafana" / "dashboards"

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in as_json().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
