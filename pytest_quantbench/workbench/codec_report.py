"""Codec figures → JSON, markdown and a chart of SNR by bits per weight. Computes nothing but the columns' units."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import msgspec

from pytest_quantbench.errors import RecordError
from pytest_quantbench.report import charts, markdown_table
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.workbench.side_by_side import DB_PER_BIT, CodecFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A figure that somebody printed for 64 × 64 Gaussian weights of σ = 0.02; shown beside ours, never mixed in."""

    label: str
    bits_per_weight: float
    snr_db: float


PUBLISHED = (
    Published(label="published INT4 nibble", bits_per_weight=5.00, snr_db=21.0),
    Published(label="published VPTQ, 1.25 without its codebooks", bits_per_weight=2.50, snr_db=3.7),
    Published(label="published QuIP#", bits_per_weight=3.00, snr_db=6.8),
)
COLUMNS = (
    "method",
    "bits/weight",
    "SNR dB",
    "to Shannon dB",
    "output SNR dB",
    "bound dB",
    "rel. output error",
    "cosine",
    "smallest row cosine",
    "largest error",
    "encode s",
    "decode s",
    "peak MB",
)


def save(figures: Sequence[CodecFigures], directory: Path) -> list[Path]:
    """Write codecs.json, codecs.md and, where charts can be drawn, codecs.svg. Raises DiskError where that fails."""
    paths = [directory / "codecs.json", directory / "codecs.md"]
    write_atomically(paths[0], msgspec.json.format(msgspec.json.encode(list(figures)), indent=1))
    write_atomically(paths[1], markdown(figures).encode())
    if not charts.missing():
        from pytest_quantbench.workbench import codec_chart  # loads altair, which may not be there

        paths.append(directory / "codecs.svg")
        write_atomically(paths[-1], charts.svg(codec_chart.draw(figures)))
    return paths


def add(figures: Sequence[CodecFigures], directory: Path) -> None:
    """Put figures into the files of this directory; they take the place of older ones of the same codec and case."""
    path = directory / "codecs.json"
    older = {_key(row): row for row in (read(path) if path.exists() else [])}
    save(list((older | {_key(row): row for row in figures}).values()), directory)


def _key(row: CodecFigures) -> tuple[str, str, int]:
    return row.case, row.method, row.width


def read(path: Path) -> list[CodecFigures]:
    """The figures of a codecs.json. Raises RecordError for a file that is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[CodecFigures])
    except (OSError, msgspec.MsgspecError) as error:
        raise RecordError(f"{path} is not a file of codec figures: {error}.") from error


def markdown(figures: Sequence[CodecFigures]) -> str:
    """A table for every case, the published figures below the 64 × 64 Gaussian one."""
    lines = ["# Quantizers on the same matrices", ""]
    for case, rows in groupby(sorted(figures, key=lambda row: row.case), key=lambda row: row.case):
        lines += [f"## {case}", "", *markdown_table.head(COLUMNS)]
        lines += [_row(row) for row in sorted(rows, key=lambda row: (-row.bits_per_weight, -row.output_snr_db))]
        if case == "Gaussian 64²":
            lines += [*map(_published, PUBLISHED), "", "Published for AQLM: not implemented."]
        lines.append("")
    notes = sorted({f"- {row.method}-{row.width} on {row.case}: {row.note}" for row in figures if row.note})
    return "\n".join([*lines, *(["Encoded otherwise than asked:", "", *notes] if notes else [])]) + "\n"


def _row(row: CodecFigures) -> str:
    bound = "–" if row.bound_db is None else f"{row.bound_db:.2f}"
    figures = [
        f"{row.bits_per_weight:.3f}",
        f"{row.snr_db:.2f}",
        f"{row.gap_db:.2f}",
        f"{row.output_snr_db:.2f}",
        bound,
    ]
    figures += [f"{row.relative_output_error:.4f}", f"{row.cosine:.5f}", f"{row.smallest_row_cosine:.5f}"]
    figures += [f"{row.largest_error:.2e}", f"{row.encode_seconds:.2f}", f"{row.decode_seconds:.2f}"]
    return markdown_table.row([f"{row.method} {row.width}", *figures, f"{row.peak_bytes / 1e6:.0f}"])


def _published(row: Published) -> str:
    gap = DB_PER_BIT * row.bits_per_weight - row.snr_db
    shown = [f"*{row.label}*", f"{row.bits_per_weight:.2f}", f"{row.snr_db:.1f}", f"{gap:.1f}"]
    return markdown_table.row([*shown, *["–"] * (len(COLUMNS) - len(shown))])
