"""`python -m bench.simulation`."""

from bench.simulation.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
