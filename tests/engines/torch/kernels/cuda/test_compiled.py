"""Every kernel compiled to machine code, for the shapes of a model of 8 billion parameters: what Triton's interpreter
does not see. No GPU is needed for that.
"""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from compiled_kernels import Starts, compiled, empty, instructions

from pytest_quantbench.engines.torch.kernels.cuda import codebook_operators, coded_operators
from pytest_quantbench.engines.torch.kernels.cuda.codebook_operators import Kind
from pytest_quantbench.engines.torch.kernels.cuda.jitted import matvec
from pytest_quantbench.engines.torch.kernels.cuda.striped_words import WIDTHS

pytestmark = pytest.mark.filterwarnings("default")  # Triton's own
SHAPES = [(1024, 4096), (4096, 4096), (14336, 4096), (4096, 14336), (128256, 4096)]
FORMATS = {
    "mxfp4": [4, matvec.E2M1, 32, matvec.E8M0_SCALE, 0],
    "nvfp4": [4, matvec.E2M1, 16, matvec.E4M3_SCALE, 0],
    "mxfp8": [8, matvec.E4M3, 32, matvec.E8M0_SCALE, 0],
}
KINDS = {  # rows, length, along inputs, bits of a lattice, in tiles
    "aqlm": (4096, 8, 1, 0, 1),
    "vptq": (4096, 8, 0, 0, 0),
    "quip": (4096, 8, 1, 2, 0),
}
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of shared memory that a program can have


def started(monkeypatch, kind, rows, columns, tokens, beside=False):
    starts, width, bfloat = Starts(), WIDTHS[kind[0]], torch.bfloat16
    monkeypatch.setattr(coded_operators, "started", starts)
    words = empty(rows, width.words, 4 * width.stripes(columns))
    scales = empty(rows, columns // kind[2], dtype=torch.uint8 if kind[3] else torch.float16)
    sparse = [empty(rows + 1), empty(3), empty(3, dtype=torch.float32)] if beside else []
    grid = (empty(tokens, columns, dtype=bfloat), words, scales, None if kind[4] >= 0 else scales, None, sparse)
    if tokens > 1:
        coded_operators.coded_matmul._init_fn(*grid, kind, bfloat)
    else:
        factors = [empty(n, m, dtype=torch.float16) for n, m in ((rows, 16), (16, columns))]
        coded_operators.coded_matvec._init_fn(*grid, factors if beside else [], kind, bfloat)
    return starts


def test_four_bits_take_two_instructions_a_weight_and_16_bytes_a_load(monkeypatch, tmp_path):
    (start,) = started(monkeypatch, [4, matvec.CODE, 64, matvec.PLAIN, -1], 4096, 4096, 1)
    found = instructions(compiled(start, 90), tmp_path)
    weights = start[3]["ROWS"] * 32  # of one thread
    assert found["LDG.E.128"] == start[3]["ROWS"]
    assert weights <= found["FFMA"] <= weights + 16
    assert 0.7 * weights <= found["LOP3.LUT"] <= weights + 32
    assert not {name for name in found if name.startswith(("I2F", "FFMA.FTZ", "STL", "RED", "ATOM"))}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("tokens", [1, 16, 512])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_width(monkeypatch, bits, tokens, capability):
    for rows, columns in SHAPES[:4] if tokens == 1 else SHAPES[:1]:
        (start,) = started(monkeypatch, [bits, matvec.CODE, 64, matvec.PLAIN, -1], rows, columns, tokens)
        binary = compiled(start, capability)
        assert binary.metadata.shared <= SHARED[capability]
        assert start[1][0] >= (132 if tokens == 1 else 1)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("tokens", [1, 16, 512])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format(monkeypatch, form, tokens, capability):
    (start,) = started(monkeypatch, FORMATS[form], 4096, 4096, tokens)
    assert compiled(start, capability).metadata.shared <= SHARED[capability]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 16])
def test_what_stands_beside_a_grid(monkeypatch, tokens):
    """A low rank has a kernel of its own before, which is compiled, too."""
    starts = started(monkeypatch, [3, matvec.CODE, 64, matvec.PLAIN, -1], 4096, 4096, tokens, beside=True)
    assert len(starts) == (2 if tokens == 1 else 1)
    for start in starts:
        compiled(start, 90)


def of_codebooks(monkeypatch, kind, tokens, rows, columns):
    """AQLM and VPTQ at 2 bits, or QuIP# where the kind has a lattice."""
    starts, kind = Starts(), Kind(*kind)
    monkeypatch.setattr(codebook_operators, "started", starts)
    x, scales = empty(tokens, columns, dtype=torch.bfloat16), empty(rows, dtype=torch.float32)
    words = empty(2, 256, 8, dtype=torch.float16)
    none = [empty(0, rows, 0), words[:0]]
    lines, length = (rows, columns // 8) if kind.along_inputs else (rows // 8, columns)
    few = [empty(2, lines, length // 4), words]
    dense = [] if kind.along_inputs else [empty(16), empty(rows, 16, dtype=torch.float16)]
    if kind.tiled:
        few[0] = empty(2, length // 32, rows // 16, 32, 16, dtype=torch.uint8)
    elif kind.lattice:
        few, none = none, [empty(1, rows, length // 2), empty(256)]
    if tokens > 1:
        if kind.lattice:
            none[1] = empty(1, 65536, 8, dtype=torch.float16)
        codebook_operators.word_matmul._init_fn(x, few, none, scales, list(kind), torch.bfloat16)
    elif kind.tiled:
        codebook_operators.table_matvec._init_fn(x, *few, scales, dense, list(kind), torch.bfloat16)
    else:
        codebook_operators.word_matvec._init_fn(x, few, none, scales, dense, list(kind), torch.bfloat16)
    return starts


def test_tables_of_codebooks_lie_in_shared_memory(monkeypatch, tmp_path):
    """One look-up for each code, and no shuffles but those that add up the columns in the end."""
    (start, _) = of_codebooks(monkeypatch, KINDS["aqlm"], 1, 4096, 4096)
    found = instructions(compiled(start, 90), tmp_path)
    of_thread = 2 * start[3]["ROWS"] * 32 // 256  # codes of two stages
    assert found["LDS"] == of_thread
    assert found["SHFL.IDX"] == 0
    assert found["SHFL.BFLY"] <= 5 * of_thread
    assert start[1][0] * start[1][1] >= 128


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("tokens", [1, 16, 512])
@pytest.mark.parametrize("method", KINDS)
def test_every_codebook(monkeypatch, method, tokens, capability):
    for start in of_codebooks(monkeypatch, KINDS[method], tokens, 4096, 4096):
        assert compiled(start, capability).metadata.shared <= SHARED[capability]
