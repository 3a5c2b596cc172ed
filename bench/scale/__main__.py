"""`python -m bench.scale`."""

from bench.scale.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
