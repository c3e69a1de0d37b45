"""Generate ``dashboards/grafana/dashboards``: run ``python -m generate`` in the folder ``dashboards``."""
