"""`python -m pytest_quantbench.cli`."""

import sys

from pytest_quantbench.cli.main import main

sys.exit(main())
