"""Assignments: each a function from a trace to a plan."""
