"""Serving: request logs, hour-of-week traffic and idle gaps (mode M3). No Dagster, no torch."""
