"""Habits of a support team that must not be learned (mode M11)."""
