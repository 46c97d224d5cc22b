"""The resident memory of this process: now, and the most that it has had since it was asked to look, or since it began.

Linux keeps that mark for every process (`VmHWM`), and lets a process lower it to what it has now (proc(5), clear_refs).
Elsewhere only the mark since the process began is told.
"""

import os
import platform
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LOWER_THE_MARK = "5"
Since = Literal["measure", "process"]  # the measure's own begin, or the process's


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPeak:
    """Bytes of the whole process: weights, libraries, everything that it held besides; and since when."""

    peak_bytes: int
    since: Since


def lower_mark() -> Since:
    """Have the system look for the peak anew; says from when on `peak` will tell it, as the system allows."""
    try:
        CLEAR.write_text(LOWER_THE_MARK)
    except OSError:
        return "process"
    return "measure"


def peak(since: Since) -> ProcessPeak:
    """The peak from then on that `lower_mark` said."""
    return ProcessPeak(peak_bytes=_told("VmHWM") or _of_process(), since=since)


def resident() -> int:
    """What is resident now, in bytes, pages of mapped files included; a program is asked where the system does not
    tell.
    """
    told = resident_bytes()
    if told is not None:
        return told
    asked = ["ps", "-o", "rss=", "-p", str(os.getpid())]  # in kibibytes, on macOS too
    return 1024 * int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def resident_bytes() -> int | None:
    """What is resident now; None where the system does not tell, as macOS does not without asking another program."""
    return _told("VmRSS")


def _told(name: str) -> int | None:
    """A figure of Linux's, in bytes; None where there is none."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    marks = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(marks[0]) if marks else None


def _of_process() -> int:
    """Since the process began, in bytes: macOS counts bytes, others kibibytes."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
