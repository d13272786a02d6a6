"""Rows: what one training example is, its identity, and how files become rows. No Dagster, no torch."""
