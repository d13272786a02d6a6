"""Preference tuning: an adapter that makes chosen answers likelier than rejected ones (direct preference optimization)."""
