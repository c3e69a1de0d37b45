"""Analyse a folder of Python files as a flow: ``python examples/analyse_folder.py [FOLDER]``.

The pipeline itself is :mod:`otelflow.cli._demo_flow`, which the command ``otelflow demo`` runs as well.
"""

import sys

import otelflow
from otelflow.cli._demo_flow import analyse

if __name__ == "__main__":
    otelflow.configure("analyse-folder", exporters=["otelflow_tree"])
    run = analyse(sys.argv[1] if len(sys.argv) > 1 else ".").execute()
    otelflow.shutdown()
    print(run.return_value)
