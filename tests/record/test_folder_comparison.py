"""Which cells of two folders are compared with which."""

from dataclasses import replace

import pytest
from generated_suite import cells, write

from pytest_quantbench.record.folder_comparison import compare, noise_of
from pytest_quantbench.record.schema import NoiseFloor


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder of one model's bf16, int4 and int4-gptq, and the model's name."""
    folder, found = tmp_path_factory.mktemp("suite"), cells(models=1, recipes=("int4", "int4-gptq"))
    write(folder, found)
    return folder, found[0][0].model_id


@pytest.mark.parametrize(("old", "new"), [("int4-gptq", "int4"), ("int4", "int4-gptq")])
def test_a_renamed_cell_comes_before_that_of_the_name_itself_in_whatever_order(suite, old, new):
    folder, model = suite
    found = compare(folder, folder, renamed={old: new})
    named = {cell.base_name: cell for cell in found.cells}
    assert {base: cell.name for base, cell in named.items()} == {
        f"{model}-{old}": f"{model}-{new}",
        f"{model}-bf16": f"{model}-bf16",
    }
    assert {change.word for change in named[f"{model}-{old}"].changes} != {"identical"}
    assert (found.only_base, found.only_new) == ((), ())  # both sides have every cell


def test_two_cells_may_be_compared_with_the_same_one(suite):
    folder, model = suite
    found = compare(folder, folder, renamed={"int4-gptq": "int4", "bf16": "int4"})
    assert {cell.base_name for cell in found.cells} == {f"{model}-int4-gptq", f"{model}-bf16"}
    assert {cell.name for cell in found.cells} == {f"{model}-int4"}


def test_what_one_side_alone_has_is_named(suite, tmp_path):
    folder, model = suite
    write(tmp_path, cells(models=1, recipes=("int3",)))
    found = compare(folder, tmp_path)
    assert found.only_base == (f"{model}-int4", f"{model}-int4-gptq")
    assert found.only_new == (f"{model}-int3",)


@pytest.mark.parametrize("side", ["base", "new"])
def test_a_record_that_cannot_be_read_is_named_where_the_other_folder_has_it(tmp_path, side):
    found = cells(models=1, recipes=("int4", "int8"))
    write(tmp_path / "base", found)
    write(tmp_path / "new", found[:2])
    for place in (1, 2):  # the last of them is only in the base
        for path in (tmp_path / side).glob(f"{found[place][0].file_stem}.json"):
            path.write_text("{")
    compared = compare(tmp_path / "base", tmp_path / "new")
    model = found[0][0].model_id
    assert compared.damaged == (str(tmp_path / side / f"{found[1][0].file_stem}.json"),)
    assert not compared.whole  # so the exit code is not 0
    assert [cell.name for cell in compared.cells] == [f"{model}-bf16"]
    assert compare(tmp_path / "base", tmp_path / "new", models=[model]).damaged == compared.damaged


@pytest.mark.parametrize("same", [True, False])
def test_a_noise_floor_is_of_the_same_engine_and_activations(tmp_path, same):
    (reference, arrays), (record, _) = cells(models=1, recipes=("int4",))
    floor = NoiseFloor(perplexity_points=0.1, kl_nats=1e-3, drop_points=0.0, flipped_points=0.0)
    machine = replace(reference.machine, activations="float32" if same else "bfloat16")
    write(tmp_path, [(replace(reference, machine=machine, noise_floor=floor), arrays)])
    assert noise_of(replace(record, noise_floor=None), tmp_path) == (floor if same else None)
