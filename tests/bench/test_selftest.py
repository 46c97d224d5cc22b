"""Known damage: that it is what it says, and that it leaves the artifact on disk alone."""

import dataclasses

import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.bench import selftest
from pytest_quantbench.bench.damage import DAMAGES, FATAL
from pytest_quantbench.bench.selftest import IDENTITY
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.artifact import open_artifact
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import QuantbenchError, WeightError
from pytest_quantbench.measures.integrity.measure import INTEGRITY
from pytest_quantbench.report import markdown_table


@pytest.fixture
def subject(small_model, tmp_path):
    model = dataclasses.replace(user_model(str(small_model())), corpus="tiny-heldout", tasks=("tiny_facts",))
    settings = Settings(cache=tmp_path / "cache", limit=10, tokens=128, fixed=True)
    return Subject(model, settings)


@pytest.fixture
def cell(subject):
    return subject.cell("int4-rtn")


def matrices(artifact):
    return {name: artifact.float32(name) for name in artifact.names}


def floats(array):
    return array.astype(np.float32)


def test_shuffled_scales_change_the_groups_that_they_say(cell):
    whole = matrices(cell.artifact)
    damaged = DAMAGES["scales of 10.0% of the groups shuffled"](cell.artifact, cell.schedule.inputs.opened, 0)
    name = "model.layers.0.self_attn.q_proj.weight"
    groups = cell.artifact.arrays(name)["scales"].size
    changed = (damaged.float32(name) != whole[name]).reshape(groups, -1).any(axis=1)
    assert 4 <= changed.sum() <= round(0.1 * groups) == 6  # a group may get a grid like its own
    before, after = (
        np.sort(each.arrays(name)["scales"].astype(np.float32), axis=None) for each in (cell.artifact, damaged)
    )
    np.testing.assert_array_equal(before, after)
    again = DAMAGES["scales of 10.0% of the groups shuffled"](cell.artifact, cell.schedule.inputs.opened, 0)
    np.testing.assert_array_equal(again.float32(name), damaged.float32(name))


def test_one_layer_is_zeroed_and_no_other(cell):
    whole, zeroed = (
        matrices(cell.artifact),
        matrices(DAMAGES["one layer's weights zeroed"](cell.artifact, cell.schedule.inputs.opened, 0)),
    )
    for name, dense in whole.items():
        if name.startswith("model.layers.1.") and dense.ndim == 2:
            assert not zeroed[name].any()
        else:
            np.testing.assert_array_equal(zeroed[name], dense)


def test_two_layers_trade_places(cell):
    whole, swapped = (
        matrices(cell.artifact),
        matrices(DAMAGES["two layers swapped"](cell.artifact, cell.schedule.inputs.opened, 0)),
    )
    other = {"model.layers.1.": "model.layers.2.", "model.layers.2.": "model.layers.1."}
    for name, dense in swapped.items():
        prefix = name[: len("model.layers.1.")]
        np.testing.assert_array_equal(dense, whole[other.get(prefix, prefix) + name[len(prefix) :]])


def test_only_layers_of_one_kind_trade_places(small_model, tmp_path):
    """Experts in the middle layer and none behind it: it is swapped with the one before. Without a pair: refused."""
    for dense, swapped in (([2], "model.layers.0."), ([1], None)):
        directory = small_model("qwen3_moe", seed=dense[0], mlp_only_layers=dense)
        source = open_model(directory)
        artifact = compress(source, recipe("int4-rtn"), 0, tmp_path)
        if swapped is None:
            with pytest.raises(QuantbenchError, match="has no two neighbouring layers of one kind to swap"):
                DAMAGES["two layers swapped"](artifact, source, 0)
            continue
        damaged = DAMAGES["two layers swapped"](artifact, source, 0)
        names = [name for name in artifact.names if not np.array_equal(damaged.float32(name), artifact.float32(name))]
        assert f"{swapped}mlp.switch_mlp.up_proj.weight" in names
        assert not [name for name in names if ".layers.2." in name]


def test_every_damage_is_judged_and_the_artifact_stays_whole(subject, cell):
    found = list(selftest.findings(cell))
    assert [finding.damage for finding in found] == [IDENTITY, *DAMAGES]
    assert [finding.expected for finding in found].count("fail") == len(FATAL)
    assert all(verdict.limit is not None for finding in found for verdict in finding.verdicts)
    estimates = [finding.verdicts[0].estimate for finding in found]
    assert len(set(estimates)) == len(estimates)
    assert abs(estimates[0]) == pytest.approx(subject.reference.record().noise_floor.perplexity_points)
    assert open_artifact(cell.artifact.directory) is not None
    lines = markdown_table.table(*selftest.as_table(found))
    assert len(lines) == 2 + len(found)
    assert "perplexity delta vs BF16, limit 1 " in lines[0]


def test_a_method_without_scales_of_groups_is_refused(subject):
    other = subject.cell("int8")
    stripped = dataclasses.replace(
        other.artifact.manifest,
        tensors=tuple(dataclasses.replace(t, arrays=("codes",)) for t in other.artifact.manifest.tensors),
    )
    other.artifact._manifest = stripped
    with pytest.raises(QuantbenchError, match="int8 stores no scales of groups to shuffle"):
        DAMAGES["scales of 1.0% of the groups shuffled"](other.artifact, other.schedule.inputs.opened, 0)


def test_weights_that_cannot_be_looked_at_are_not_called_sound(cell):
    cell.schedule.samples.fail(cell.target.rounded, INTEGRITY, WeightError("Its scales cannot be read."))
    with pytest.raises(WeightError, match=r"Its scales cannot be read\."):
        next(selftest.findings(cell))
