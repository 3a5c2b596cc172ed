"""`python -m sagepool.laptop`: the supervisor; `control.start` starts it."""

import sys

from sagepool.laptop.supervisor import main

sys.exit(main())
