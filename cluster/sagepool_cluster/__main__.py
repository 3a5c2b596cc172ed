"""`python -m sagepool_cluster`."""

from sagepool_cluster.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
