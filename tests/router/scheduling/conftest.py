"""The scheduler is tested with engines of its tests' own, and they extend one of its classes.

Nothing interpreted can extend what is compiled, so these tests run over the sources alone; over
the compiled modules the scheduler is tested by what is asked of the whole router.
"""

from compiled import IS_COMPILED

collect_ignore_glob = ["test_*.py"] if IS_COMPILED else []
