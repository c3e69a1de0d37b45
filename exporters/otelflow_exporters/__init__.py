"""Span exporters that need no backend, or outlive it. Only the spool imports otelflow."""
