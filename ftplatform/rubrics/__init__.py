"""Rubrics: what serves as reward must not serve as exam, and what an exam says must mean something (mode M6).

Scores are shares in [0, 1] throughout, as judges give them. Judges and encoders are taken as callables.
"""
