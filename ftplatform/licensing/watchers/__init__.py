"""License watchers: they look at what others say about their terms, and report what changed (mode M2).

`hub`, `git`, `url_terms`, `rows` and `local_file` look again and again, `manual` reads a notice, `dead_man` watches the watchers.
A watcher never concludes: it returns `TermsObservation`s, the ledger records them, and a person decides.
"""
