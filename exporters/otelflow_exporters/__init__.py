"""Span exporters that need no backend, or that keep spans until a backend is up. Only the spool imports otelflow."""
