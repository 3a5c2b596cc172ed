"""`python demo/run.py up` runs the demo, `python demo/run.py down` removes what it installed."""

from sagepool_demo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
