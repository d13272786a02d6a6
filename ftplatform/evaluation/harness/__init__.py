"""EleutherAI's lm-evaluation-harness: its tasks as scores of a model, and as eval sets of a project. Needs the extra `lm-eval`.

The harness brings prompts, answer extraction and metrics that others publish numbers with; the models answer through `Generator`, so
that weights, decoding and safety rules are those of every other evaluation here.
"""
