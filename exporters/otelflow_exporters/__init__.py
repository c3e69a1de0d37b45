"""Span exporters that need no backend. They know OpenTelemetry only: nothing in here imports otelflow."""
