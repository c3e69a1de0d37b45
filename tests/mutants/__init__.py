"""Mutation testing: change the code a little, and see whether a test notices. Run it with ``make mutants``."""
