"""Span exporters that need no backend, or outlive it. They know OpenTelemetry only: nothing imports otelflow."""
