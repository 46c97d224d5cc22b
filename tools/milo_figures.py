"""MiLo beside rounding and HQQ at equal stored bits, on every decoder matrix of a model: docs/figures/milo-NAME.md.

    python tools/milo_figures.py DIRECTORY TEXT       # TEXT: a file or tiny-train

Rounding and HQQ have no setting that stores exactly what MiLo stores. Their SNR is interpolated in the stored bits
between groups of 128, 64 and 32.
"""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.report import markdown_table
from pytest_quantbench.workbench import side_by_side
from pytest_quantbench.workbench.matrices import Case

FIGURES = Path(__file__).parent.parent / "docs" / "figures"


def main(directory: Path, text: str) -> None:
    """One row for each kind of matrix, its smallest margins over all layers."""
    margins: dict[str, list[tuple[float, float, float, float]]] = {}
    for case in side_by_side.model_cases(directory, text):
        bits, snr = _encoded(case, "milo", {"bits": 3})
        over = [snr - _at(bits, case, name) for name in ("rtn", "hqq")]
        margins.setdefault(case.name.rsplit(".", 1)[-1], []).append((bits, snr, over[0], over[1]))
        print(f"{case.name}: {bits:.3f} bits, {snr:.2f} dB, above rtn {over[0]:+.2f}, hqq {over[1]:+.2f}", flush=True)
    lines = markdown_table.head(["matrices", "bits per weight", "milo, dB", "above rtn, dB", "above hqq, dB"])
    for kind, rows in margins.items():
        bits_mean, snr_mean, _, _ = np.mean(rows, axis=0)
        _, _, rtn, hqq = np.min(rows, axis=0)
        shown = [f"{bits_mean:.2f}", f"{snr_mean:.2f}", f"{rtn:+.2f}", f"{hqq:+.2f}"]
        lines.append(markdown_table.row([f"{len(rows)} × `{kind}`", *shown]))
    (FIGURES / f"milo-{directory.name}.md").write_text("\n".join(lines) + "\n")


def _at(bits: float, case: Case, name: str) -> float:
    """The weight SNR that a method would have at `bits`, and at the most that it can store beyond that."""
    found = dict(_encoded(case, name, {"bits": 3, "group_size": group}) for group in (128, 64, 32))
    return float(np.interp(bits, sorted(found), [found[stored] for stored in sorted(found)]))


def _encoded(case: Case, name: str, parameters: dict[str, int]) -> tuple[float, float]:
    """Stored bits per weight and weight SNR in dB, without calibration."""
    quantizer = quantizers.make(Part(quantizer=name, parameters=parameters))
    weight = case.weight.astype(ml_dtypes.bfloat16)
    original = weight.astype(np.float32)
    arrays = quantizer.encode(weight, None, 0)
    decoded = quantizer.decode(arrays)
    stored = sum(array.nbytes for array in arrays.values())
    return 8 * stored / original.size, snr_db(original.ravel(), (decoded - original).ravel())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
