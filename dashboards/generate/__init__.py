"""The dashboards of ``dashboards/grafana/dashboards``, made by ``python -m generate`` in the folder ``dashboards``."""
