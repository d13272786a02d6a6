"""The Dagster layer: the only package that imports dagster. It binds domain functions to assets, checks, schedules and sensors.

What belongs here: factories from the project file to Dagster objects, the gate, metadata rendering. What does not: any rule
about data, licenses or models; those are functions in the domain packages, usable without Dagster.

No module here uses `from __future__ import annotations`: Dagster resolves parameter annotations at decoration time.
"""
