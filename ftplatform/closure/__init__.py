"""The closure of an adapter: everything that has to be the same for the same adapter to come out (mode M1).

`code_identity` and `packages` read the surroundings, `manifest` writes them down with what was trained on, `lint` finds what will
not hold on another machine, `complete` is the check, `diff` says what changed between two closures.
"""
