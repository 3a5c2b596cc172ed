"""The API of sagepool: the two kinds, their schema and every shared name."""
