"""The kernel for matrices of codebooks' words, whose body is compiled as C++ here: no machine of ours has Metal.

32 threads stand for a group of Metal's; where they add up their sums, each waits for all others.
"""

import ctypes
import shutil
import subprocess

import mlx.core as mx
import numpy as np
import pytest
from random_grids import codebooks, lattice

from pytest_quantbench.engines.mlx import bytes_read, codebook_layer, layers
from pytest_quantbench.engines.mlx.arrays import to_mlx
from pytest_quantbench.engines.mlx.codebook_layer import SIZES, SOURCE, CodebookLinear
from pytest_quantbench.quantizers.layer import Columns, Layer, PerToken, Rotation
from pytest_quantbench.quantizers.layer_matrix import matrix

SHIM = """
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>
using uint = unsigned int;
using T = float;
struct uint3 { uint x, y, z; };
static std::barrier<> gate(32);
static float sums[32];
static thread_local uint own;
static int SIZES;
static float simd_sum(float value) {
    sums[own] = value;
    gate.arrive_and_wait();
    float total = 0;
    for (float each : sums) total += each;
    gate.arrive_and_wait();
    return total;
}
template <typename Code>
static void body(uint3 thread_position_in_grid, const Code *codes, const float *words, const float *scales,
                 const float *x, float *out) {
    SOURCE
}
template <typename Code>
static void all(const int *sizes, int tokens, const void *codes, const float *words, const float *scales,
                const float *x, float *out) {
    READ
    std::vector<std::thread> lanes;
    for (uint lane = 0; lane < 32; ++lane)
        lanes.emplace_back([=] {
            own = lane;
            for (uint token = 0; token < uint(tokens); ++token)
                for (uint line = 0; line < uint(LINES); ++line)
                    body<Code>({lane, line, token}, static_cast<const Code *>(codes), words, scales, x, out);
        });
    for (auto &lane : lanes) lane.join();
}
extern "C" void narrow(const int *s, int n, const void *c, const float *w, const float *f, const float *x, float *o) {
    all<uint8_t>(s, n, c, w, f, x, o);
}
extern "C" void wide(const int *s, int n, const void *c, const float *w, const float *f, const float *x, float *o) {
    all<uint16_t>(s, n, c, w, f, x, o);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What takes the place of MLX's kernel, of the same body."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    folder = tmp_path_factory.mktemp("kernel")
    read = " ".join(f"{name} = sizes[{place}];" for place, name in enumerate(SIZES))
    text = SHIM.replace("SOURCE", SOURCE).replace("READ", read).replace("int SIZES", f"int {', '.join(SIZES)}")
    (folder / "kernel.cpp").write_text(text)
    library = folder / "kernel.so"
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", folder / "kernel.cpp", "-o", library]
    subprocess.run(command, check=True, capture_output=True, text=True)
    functions = ctypes.CDLL(str(library))

    def kernel(*, inputs, template, grid, threadgroup, output_shapes, output_dtypes):
        named, ((tokens, rows),) = dict(template), output_shapes
        assert (grid, threadgroup) == ((32, named["LINES"], tokens), (32, 1, 1))
        assert output_dtypes == [named.pop("T")]
        codes, *floats = (
            np.ascontiguousarray(np.array(each.astype(mx.float32) if number else each))
            for number, each in enumerate(inputs)
        )
        out = np.full((tokens, rows), np.nan, np.float32)
        function = functions.narrow if codes.dtype == np.uint8 else functions.wide
        sizes = np.array([named[name] for name in SIZES], np.int32)
        pointers = [ctypes.c_void_p(each.ctypes.data) for each in (codes, *floats, out)]
        function(ctypes.c_void_p(sizes.ctypes.data), tokens, *pointers)
        return [mx.array(out).astype(output_dtypes[0])]

    return kernel


@pytest.fixture
def metal(monkeypatch, compiled):
    monkeypatch.setattr(codebook_layer, "_compiled", lambda: compiled)
    monkeypatch.setattr(codebook_layer, "backend", lambda: "metal")


def agrees(layer, tokens):
    built = layers.module(layer, lambda: pytest.fail("it is not decoded"))
    assert isinstance(built, CodebookLinear)
    x = np.random.default_rng(0).standard_normal((tokens, layer.grid.in_features)).astype(np.float32)
    right = x @ matrix(layer).T
    np.testing.assert_allclose(np.array(built(to_mlx(x))), right, rtol=0, atol=2e-5 * np.abs(right).max())
    return built


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("tokens", [1, 3, 9])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_it_computes_what_the_matrix_computes(along, shared, tokens):
    agrees(Layer(grid=codebooks(along, 19, 301, shared=shared)), tokens)


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_wide_codes_short_vectors_and_dense_columns(along):
    agrees(Layer(grid=codebooks(along, 9, 40, stages=1, words=1024)), 2)
    agrees(Layer(grid=codebooks(along, 5, 7, length=1, stages=1, words=4)), 1)
    columns = Columns(places=np.array([1, 39], np.int32), values=np.full((9, 2), 0.3, np.float32))
    agrees(Layer(grid=codebooks(along, 9, 40), columns=columns), 2)


@pytest.mark.usefixtures("metal")
def test_other_types_of_activations_leave_words_and_scales_alone():
    layer = Layer(grid=codebooks("inputs", 9, 40))
    built = agrees(layer, 1)
    before = np.array(built.decoded())
    built.set_dtype(mx.bfloat16)
    np.testing.assert_array_equal(np.array(built.decoded()), before)
    assert built(mx.ones((2, 40), mx.bfloat16)).dtype == mx.bfloat16
    assert bytes_read.kernels(built) == {"codebooks, 2 of 256 × 8": 1}
    assert bytes_read.bytes_per_token(built, {}) == 2 * 9 * 5 + 2 * 2 * 256 * 8 + 4 * 9


@pytest.mark.usefixtures("metal")
@pytest.mark.parametrize(
    "layer",
    [
        Layer(grid=lattice(2, 4, 16), rotation=Rotation(input_signs=np.ones(16), output_signs=np.ones(4))),
        Layer(grid=codebooks("inputs", 4, 16), input_rule=PerToken(bits=8)),
    ],
)
def test_what_has_something_around_it_runs_decoded(layer):
    assert not codebook_layer.runs_as_stored(layer)


def test_elsewhere_it_runs_decoded():
    layer = Layer(grid=codebooks("inputs", 4, 16))
    assert not isinstance(layers.module(layer, lambda: matrix(layer)), CodebookLinear)
