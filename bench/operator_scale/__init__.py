"""What the operator takes to run many pools; see docs/operator-scale.md."""
