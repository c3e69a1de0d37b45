"""The price service: a program of its own, which the shop asks over HTTP."""
