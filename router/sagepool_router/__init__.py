"""The router: one OpenAI-compatible endpoint over the instances of a pool."""
