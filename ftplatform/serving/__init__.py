"""Serving: request logs, cold starts and keeping an adapter warm (mode M3). No Dagster, no torch."""
