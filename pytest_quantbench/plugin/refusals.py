"""How a session that cannot begin is refused: as a usage error, and under pytest-xdist in the controller's terminal."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin.option_names import as_typed

REFUSED = "quantbench_refused"  # in what a worker of pytest-xdist hands over at its end: why it collected nothing


@contextmanager
def refusing(config: pytest.Config) -> Generator[None]:
    """Make a QuantbenchError of what is done inside a UsageError in the names that were typed.

    A worker's own terminal is never seen, and its controller would only find that no worker is left, so a worker also
    leaves the sentence in what it hands over at its end.
    """
    try:
        try:
            yield
        except QuantbenchError as error:
            raise pytest.UsageError(as_typed(config, str(error))) from error
    except pytest.UsageError as error:
        if hasattr(config, "workeroutput"):
            config.workeroutput[REFUSED] = str(error)
        raise
