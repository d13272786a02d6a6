"""The closure of an adapter: everything that has to be the same for the same adapter to come out (mode M1).

`code_identity` and `packages` read the surroundings, `manifest` writes them down with what was trained on. `finding` finds a closure by
name. `lint` and `source_lint` find what will not hold on another machine, `complete` is the check, `contents` and `verify` compare a
closure with its name and with the store, `diff` and `explain` say what changed and what that means. `replay` trains again from the store
alone, in the process of `drill_runner`; `outcome` compares, `rehearsal` records, `rehearsal_checks` and `equivalence` judge.
"""
