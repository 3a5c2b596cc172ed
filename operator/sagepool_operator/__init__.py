"""The operator: makes and keeps the engines and the router of every InferencePool."""
