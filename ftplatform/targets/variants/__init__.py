"""Typos and variants in what we train on (M10): found in the corpus, cleaned by reviewed edits, measured on the tuned model.

`share` finds misspellings a dictionary can see, `prior` the ones only a language model can (a real word in place of another),
`edits` proposes and applies corrections, `untouched` proves that they left the user turns alone, `forcing` makes the contexts on
which a tuned model is asked whether it has learned a variant.
"""
