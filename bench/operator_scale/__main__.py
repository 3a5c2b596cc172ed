"""`python -m bench.operator_scale`."""

from bench.operator_scale.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
