"""The generated suite hangs together as a real run does."""

import generated_suite
import numpy as np
import pytest

from pytest_quantbench.record import folder


@pytest.fixture(scope="module")
def found():
    return generated_suite.cells(2)


def test_a_suite_has_every_recipe_of_every_model_and_its_reference(found):
    assert len(found) == 2 * (1 + len(generated_suite.RECIPES))
    assert len({record.file_stem for record, _ in found}) == len(found)


def test_figures_are_those_of_the_raw_samples(found):
    for record, arrays in found:
        losses = arrays["perplexity/nll_nats"]
        assert record.perplexity.ppl == pytest.approx(float(np.exp(losses.mean(dtype=np.float64))))
        for name, task in record.accuracy.tasks.items():
            assert task.accuracy == arrays[f"accuracy/{name}/correct"].mean()


def test_some_verdicts_are_of_every_kind():
    outcomes = {verdict.outcome for record in generated_suite.records(10) for verdict in record.verdicts}
    assert {"pass", "fail", "undecided", "informational"} <= outcomes


def test_it_is_written_as_a_results_folder(found, tmp_path):
    generated_suite.write(tmp_path, found)
    records = folder.read_all(tmp_path)
    assert len(records) == len(found)
    assert folder.read_arrays(records[0], tmp_path)["perplexity/nll_nats"].shape == (2048,)
