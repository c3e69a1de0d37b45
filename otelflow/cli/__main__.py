"""Run the command ``otelflow`` as ``python -m otelflow.cli``, if its script is not on the PATH."""

import sys

from otelflow.cli import main

sys.exit(main())
