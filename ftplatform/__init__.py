"""ftplatform: fine-tuning as data assets whose checks refuse, with evidence, the ways it fails silently."""

__version__ = "0.1.0"
