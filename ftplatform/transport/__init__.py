"""The one way out of this machine that the platform's own code takes to a model server, and what may go wrong on it."""
