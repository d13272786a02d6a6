"""Reward loops: what the proxy said and what people found, per checkpoint and item, and when to stop (mode M8). No Dagster, no torch."""
