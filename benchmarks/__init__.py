"""Benchmarks: `python -m benchmarks.NAME [--json]`, contenders alternating in one run, one JSON line at the end."""
