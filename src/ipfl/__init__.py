"""ipfl: a model-sharing market."""
