"""Add `show` and `spool` to the `otelflow` command, which finds them by the entry-point group `otelflow_commands`."""
