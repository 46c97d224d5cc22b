"""Every vector and every affine method against the contract of its kind (see contract)."""

import ml_dtypes
import numpy as np
import pytest
from quantizers import contract
from quantizers.contract import AFFINE, GRID_ALONE, HESSIANS, SHAPES, VECTORS

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics.affine import GROUPS
from pytest_quantbench.quantizers.quip import Quip
from pytest_quantbench.quantizers.static import Static

QUICK = {"aqlm": {"rounds": 1}, "vptq": {"rounds": 1}, "hqq": {"turns": 4}, "awq": {"candidates": 4}}
BOTH = {**VECTORS, **AFFINE}
CALIBRATED = {"aqlm", "vptq", "gptq", "awq"}


def quick(name, bits):
    return BOTH[name](bits=bits, **QUICK.get(name, {}))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("name", BOTH)
def test_any_shape_goes_there_and_back(name, bits, shape):
    contract.any_shape_goes_there_and_back(quick(name, bits), shape)


@pytest.mark.parametrize("value", [0.0, 0.75, -3.0, 0.3, 1e-40])
@pytest.mark.parametrize("name", BOTH)
def test_a_constant_matrix_survives(name, value):
    contract.a_constant_matrix_survives(quick(name, 2), value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", BOTH)
def test_every_float_type_is_taken(name, dtype):
    contract.every_float_type_is_taken(quick(name, 4), dtype)


@pytest.mark.parametrize("name", BOTH)
def test_four_times_the_matrix_is_four_times_the_result(name):
    contract.four_times_the_matrix_is_four_times_the_result(quick(name, 3))


@pytest.mark.parametrize("name", BOTH)
def test_arrays_survive_a_file(name, tmp_path):
    contract.arrays_survive_a_file(quick(name, 2), (16, 172), tmp_path)


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("name", sorted(CALIBRATED))
def test_a_hessian_without_full_rank_is_taken(name, hessian):
    contract.a_hessian_without_full_rank_is_taken(quick(name, 4), HESSIANS[hessian])


@pytest.mark.parametrize("quantizer", [*(quick(name, 4) for name in sorted(CALIBRATED)), Quip(bits=4), Static(bits=4)])
def test_calibration_is_needed(quantizer):
    contract.calibration_is_needed(quantizer)


@pytest.mark.parametrize("name", VECTORS)
def test_more_bits_more_rounds_and_wider_beams_lower_the_error(name):
    contract.more_bits_more_rounds_and_wider_beams_lower_the_error(VECTORS[name])


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", GRID_ALONE)
def test_the_grid_is_mlx_s_own(name, bits, group):
    contract.the_grid_is_mlx_s_own(AFFINE[name](bits=bits, group_size=group), group)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {"bits": 9}) for name in BOTH),
        *((name, {"bits": 7}) for name in AFFINE),
        *((name, {"bits": 4, "group_size": 48}) for name in AFFINE),
        *((name, {"bits": 2, "codebook_bits": 20}) for name in VECTORS),
        ("aqlm", {"bits": 2, "group_size": 7}),
        ("vptq", {"bits": 2, "vector": 7}),
    ],
)
def test_impossible_parameters_are_refused(name, fields):
    field, value = list(fields.items())[-1]
    with pytest.raises(QuantbenchError, match=f"{name} cannot have {field} = {value}"):
        BOTH[name](**fields)
