"""Programs of ours that run in engine containers, handed to them as text."""
