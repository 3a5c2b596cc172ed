"""`python -m sagepool.cli`."""

from sagepool.cli import main

main()
