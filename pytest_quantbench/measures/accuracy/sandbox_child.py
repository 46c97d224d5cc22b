"""What runs in the process of a sandboxed program: it lowers its own limits, runs the program and reports its end.

Started by `sandbox` with the path of this file, in isolated mode: it imports nothing of the package. Standard input
holds a token, a new line and the program. What is written to the channel is the token once the program has reached its
end, or the name and message of the exception that ended it.
"""

import os
import resource
import sys
from types import ModuleType, TracebackType

MESSAGE_CHARACTERS = 300


def run(channel: int, cpu_seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Run the program as a module of its own, whose name is not __main__: code_eval does not run such blocks either."""
    token, _, program = sys.stdin.buffer.read().partition(b"\n")
    process = os.getpid()

    def report(message: bytes) -> None:
        if os.getpid() == process:  # a forked copy of the program gets here too, and proves nothing
            os.write(channel, message)

    def uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        report(f"{kind.__name__}: {error}".removesuffix(": ")[:MESSAGE_CHARACTERS].encode(errors="replace"))
        os._exit(1)  # threads of the program that still run need not be waited for

    os.environ.clear()  # Python and macOS put in variables of their own
    sys.excepthook, sys.argv = uncaught, ["program"]
    module = sys.modules["program"] = ModuleType("program")
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform != "darwin":  # which has the limit and does not enforce it
        _lower(resource.RLIMIT_AS, memory_bytes)
    exec(compile(program.decode(errors="replace"), "<program>", "exec", dont_inherit=True), vars(module))
    report(token)
    os._exit(0)  # what its threads and exit handlers would still do does not matter


def _lower(kind: int, value: int) -> None:
    """Set a limit, as far as the system lets us. The hard one is 1 more: SIGXCPU comes before SIGKILL."""
    _, most = resource.getrlimit(kind)
    soft, hard = (value, value + 1) if most == resource.RLIM_INFINITY else (min(value, most), min(value + 1, most))
    resource.setrlimit(kind, (soft, hard))


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
