"""Synthetic rows: lineage of recorded teacher output, and whether their inputs look like what users type (mode M9)."""
