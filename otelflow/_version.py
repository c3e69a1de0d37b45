"""The version of the distribution and of the instrumentation scope: written here only."""

__version__ = "0.1.0"
