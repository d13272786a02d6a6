"""Answering a notice: what it claims, which rows fall, whether they are gone from an artifact, and the certificate that says so.

`claim` and `matching` find claimed rows among ours, `ban` says how far a notice reaches, `taint` follows it through parents, `closure`
describes an artifact, `check` decides, `probe` looks for recitation, `claims` judges eval sets, `certificate` writes it down, `plan` says
what to rebuild. The platform informs counsel; it gives no legal advice.
"""
