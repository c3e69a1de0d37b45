"""``python -m otelflow.cli``: the command, where its script is not on the path."""

import sys

from otelflow.cli import main

sys.exit(main())
