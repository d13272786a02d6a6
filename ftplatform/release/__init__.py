"""What leaves the platform: weights, closure, evidence, licenses and a model card in one folder that can be verified anywhere."""
