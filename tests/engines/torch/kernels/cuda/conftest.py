"""Which tests run in Triton's interpreter: it has to be asked for before Triton is imported, so they have a process of
their own, which `test_in_interpreter` starts.
"""

import os

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore = [] if INTERPRETED else ["interpreted"]
