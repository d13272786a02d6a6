"""Feedback: raw events, which are never trainable, and the curated targets that are (mode M4). No Dagster, no torch."""
