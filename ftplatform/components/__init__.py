"""Dagster components, for projects organized by `dg`."""
