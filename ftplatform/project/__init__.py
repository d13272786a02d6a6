"""The user's file, `ftplatform.yaml`: its models, its loading, its errors. No Dagster, no torch."""
