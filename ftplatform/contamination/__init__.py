"""Eval items inside the training data: exact copies and shared conversations (mode M12)."""
