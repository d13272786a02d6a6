"""License declarations, what they permit, and the checks on them (mode M2).

`expressions` reads SPDX, `policy` says what a license permits, `rights` combines permissions, `terms` holds what is known about one
source, `checks` judges rows and models, `ledger` writes it all down. The platform informs counsel; it gives no legal advice.
"""
