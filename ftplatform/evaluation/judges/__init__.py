"""Judges grade answers where no metric can: by rules, by a local model, or by a model behind an OpenAI-compatible endpoint.

Read `interface.py` first. Whatever a model judge was asked and said is kept (`transcripts.py`), so that grading again asks nobody.
"""
