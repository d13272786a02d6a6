"""Duplicates: near-duplicate clusters, the reserved eval, what was removed, and whether small slices survived (mode M7)."""
