"""What our modules warned of: pytest hides the log of tests that pass, so the summary says it again."""

import logging

PACKAGE = __name__.partition(".")[0]


class Notices(logging.Handler):
    """Collects the warnings of this package, each once, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        if (line := record.getMessage()) not in self.lines:
            self.lines.append(line)
