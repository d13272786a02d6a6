"""Reward ledgers: what the proxy said and what people found, per checkpoint and item (mode M8). No Dagster, no torch."""
