"""Quantizers side by side on the same matrices: what they store, what they lose, and what they cost."""

import math
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from pytest_quantbench import engines, quantizers
from pytest_quantbench.catalog.corpora import CORPORA
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import REFERENCE, Part
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.assignment import plan
from pytest_quantbench.compress.calibration import LayerInputs
from pytest_quantbench.compress.calibration_text import SELF, Writer, calibration_set
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.errors import ComparisonError, QuantbenchError
from pytest_quantbench.measures.weights import cosine, snr_db
from pytest_quantbench.quantizers import Array, Arrays, Quantizer
from pytest_quantbench.quantizers.encoding import parsed
from pytest_quantbench.quantizers.numerics.error_feedback import output_error
from pytest_quantbench.storage.cache import default_cache
from pytest_quantbench.workbench.matrices import Case, bound_db

WIDTHS = (8, 6, 5, 4, 3, 2)
DB_PER_BIT = 20 * math.log10(2)  # Shannon: what a bit per weight can be worth on independent Gaussian weights
BOUND_TOLERANCE_DB = 0.3  # a finite matrix is not exactly its expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecFigures:
    """One method at one width on one matrix. Sizes from the stored arrays; `peak_bytes` while encoding."""

    method: str
    width: int
    case: str
    shape: tuple[int, int]
    stored_bytes: int
    bits_per_weight: float
    snr_db: float
    output_snr_db: float
    bound_db: float | None  # of the output SNR at these bits; None where the weights are not Gaussian
    relative_output_error: float
    cosine: float
    smallest_row_cosine: float
    largest_error: float
    encode_seconds: float
    decode_seconds: float
    peak_bytes: int
    note: str

    @property
    def gap_db(self) -> float:
        """How far below Shannon's bound for Gaussian weights (6.02 dB per stored bit) the weight SNR lies."""
        return DB_PER_BIT * self.bits_per_weight - self.snr_db


def methods(names: Sequence[str] | None = None) -> Iterator[tuple[str, int, Quantizer]]:
    """Every registered method at every width that it takes: (name, width, quantizer). The identity is left out.

    A method without a field `bits` comes once, with 0 for its width. Raises UnknownNameError for a name that nobody
    registered, QuantbenchError for a method that refuses every width.
    """
    for name in names or [name for name in quantizers.names() if name != "identity"]:
        if "bits" not in quantizers.field_names(quantizers.get(name)):
            yield name, 0, quantizers.make(Part(quantizer=name))
            continue
        refusals = []
        for width in WIDTHS:
            try:
                yield name, width, quantizers.make(Part(quantizer=name, parameters={"bits": width}))
            except QuantbenchError as error:  # a width that this method does not have
                refusals.append(error)
        if len(refusals) == len(WIDTHS):
            raise refusals[-1]


def compare(name: str, width: int, quantizer: Quantizer, case: Case, seed: int = 0) -> CodecFigures:
    """Encode and decode one case.

    Raises ComparisonError where Gaussian weights come back better than any code of the stored bits could make them:
    then something that decoding needs was not counted.
    """
    weight = case.weight.astype(ml_dtypes.bfloat16)
    original = weight.astype(np.float32)
    arrays, encode_seconds, peak = _encode(quantizer, weight, case, seed)
    began = time.perf_counter()
    decoded = quantizer.decode(dict(arrays)).astype(np.float32)
    decode_seconds = time.perf_counter() - began
    stored = sum(array.nbytes for array in arrays.values())
    bits = 8 * stored / original.size
    error, hessian = decoded - original, case.statistics.hessian
    lost, whole = output_error(error, hessian), output_error(original, hessian)
    output_snr = 10 * math.log10(whole / lost) if lost else math.inf
    bound = bound_db(hessian, bits) if case.gaussian else None
    if bound is not None and output_snr > bound + BOUND_TOLERANCE_DB:
        raise ComparisonError(
            f"{name} at {width} bits on {case.name}: {output_snr:.2f} dB with {bits:.3f} stored bits per weight, where "
            f"{bound:.2f} dB is the most that any code can have. Something that decoding needs is not counted."
        )
    rows = [cosine(a, b) for a, b in zip(original, decoded, strict=True)]
    return CodecFigures(
        method=name,
        width=width,
        case=case.name,
        shape=(original.shape[0], original.shape[1]),
        stored_bytes=stored,
        bits_per_weight=bits,
        snr_db=snr_db(original.ravel(), error.ravel()),
        output_snr_db=output_snr,
        bound_db=bound,
        relative_output_error=math.sqrt(lost / whole),
        cosine=cosine(original.ravel(), decoded.ravel()),
        smallest_row_cosine=min(rows),
        largest_error=float(np.abs(error).max()),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        peak_bytes=peak,
        note=quantizer.note((original.shape[0], original.shape[1]), arrays),
    )


def _encode(quantizer: Quantizer, weight: Array, case: Case, seed: int) -> tuple[Arrays, float, int]:
    """The arrays, the seconds, and the most that numpy's arrays took, in bytes above the start.

    Encoded twice: counting memory slows a method down, some of them tenfold.
    """
    seen = case.statistics if quantizer.calibration != "none" else None
    began = time.perf_counter()
    quantizer.encode(weight, seen, seed)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    arrays = quantizer.encode(weight, seen, seed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return arrays, seconds, peak


def model_cases(
    directory: Path, calibration: str | None, sequences: int = 16, engine: Engine | None = None
) -> Iterator[Case]:
    """Every matrix that would be encoded of a model's decoder layers, with the inputs that it gets in the original
    model, layer by layer.

    `calibration` is the text that it sees: a file, a corpus or `self`; None: its own in the catalogue, or
    C4, or what the model itself writes. `engine`: what walks it; None: the one that is faster here.
    """
    engine, tokenizer, cache = engine or engines.get(), load_tokenizer(directory), default_cache()
    opened = engine.open(Checkpoint(directory))
    source = reference(opened, REFERENCE, cache)
    writer = Writer(
        name=directory.name,
        engine=engine,
        reference=lambda: source,
        tokenizer=lambda: tokenizer,
        cache=cache,
        seed=0,
    )
    asked = calibration if calibration is None or calibration in (SELF, *CORPORA) else Path(calibration)
    known = (model.calibration for model in MODELS.values() if model.local and directory.samefile(model.source))
    text = calibration_set(asked, next(known, "c4"), writer, sequences=sequences, usual=sequences, offline=False)
    batches = text.batches(tokenizer, engine.capacity(opened.config), 0)
    encoded = {item.path for item in plan(opened, REFERENCE) if item.codec}
    walk = engine.walk([source])
    walk.begin(batches)
    for layer in range(len(walk)):
        seen = LayerInputs(len(batches), 0)
        walk.observe(layer, seen)
        for path, statistics in seen.statistics().items():
            owner, expert = parsed(path)
            if owner not in encoded:
                continue
            held = opened.array(f"{owner}.weight")
            matrix = held if expert is None else held[expert]
            yield Case(name=path, weight=matrix.astype(np.float32), statistics=statistics)
        walk.advance(layer)
