"""Artifacts against their source, as a session meets them: found along the walk, kept, recorded, shown."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest
import terminal_text
from builders import Device, open_model

from pytest_quantbench.bench import selftest
from pytest_quantbench.bench.damage import DAMAGES
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.manifest import verified_manifest
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.measures.integrity import inspection
from pytest_quantbench.measures.integrity.inspection import Inspected
from pytest_quantbench.record import folder as results
from pytest_quantbench.record import schema
from pytest_quantbench.report import markdown, markdown_table, terminal
from pytest_quantbench.storage.files import file_sha256
from pytest_quantbench.storage.sealed_json import sealed

pytestmark = pytest.mark.usefixtures("judged_unread")
DOWN, NORM = "model.layers.1.mlp.down_proj", "model.layers.2.input_layernorm.weight"


@pytest.fixture
def directory(small_model):
    return small_model(intermediate_size=256)


def subject(directory, tmp_path, **changes):
    model = dataclasses.replace(user_model(str(directory)), corpus="tiny-heldout", tasks=("tiny_facts",))
    settings = Settings(cache=tmp_path / "cache", limit=10, tokens=128, fixed=True, **changes)
    return Subject(model, settings)


def cell(directory, tmp_path, **changes):
    return subject(directory, tmp_path, **changes).cell("int4-rtn")


def tampered(artifact):
    """The artifact on disk with the grids of one matrix off by one group, and an input norm lost; hashes agree."""
    folder = artifact.directory
    for file in folder.glob("*.safetensors"):
        arrays = dict(mx.load(str(file)))
        for name in arrays:
            if name in (f"{DOWN}.scales", f"{DOWN}.biases"):
                arrays[name] = mx.roll(arrays[name], 1, 1)
            if name == NORM:
                arrays[name] = mx.zeros_like(arrays[name])
        mx.eval(arrays)
        mx.save_safetensors(str(file), arrays, metadata={"format": "mlx"})
    manifest = artifact.manifest
    files = {name: file_sha256(folder / name) for name in manifest.files}
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    (folder / "manifest.json").write_bytes(sealed(dataclasses.replace(manifest, files=files, stored_bytes=stored)))
    assert verified_manifest(folder).files == files


def names_both(problems):
    grid, norm = (" ".join(each for each in problems if name in each) for name in (DOWN, NORM))
    assert "wrong scales, offsets or signs" in grid or "where plain rounding has" in grid or "has lost" in grid
    assert "64 of its 64 values differ from the source; they are all of one value" in norm
    assert all(DOWN in each or NORM in each for each in problems)


def test_a_walk_finds_what_is_wrong_and_the_record_says_it(directory, tmp_path):
    tampered(cell(directory, tmp_path).artifact)
    found = cell(directory, tmp_path)
    verdict = found.judge("perplexity", 1e9)
    assert verdict.outcome == "pass"  # damage that the gate does not see is named all the same
    names_both(found.problems)
    written = found.record()
    names_both(written.integrity)
    saved = schema.read(results.save(written, found.raw(), tmp_path / "results"))
    assert saved.integrity == written.integrity
    lines = terminal_text.shown([saved])
    assert any(line.startswith(f"integrity: {found.id}: {DOWN}.weight") for line in lines)
    assert f"- {found.id}: {NORM}" in markdown.markdown([saved], [])


def test_sound_weights_have_nothing_said_against_them(directory, tmp_path):
    opened = subject(directory, tmp_path)
    found, reference = opened.cell("int4-rtn"), opened.reference
    found.judge("perplexity", 1e9)
    assert found.problems == found.record().integrity == ()
    assert "integrity: all decoded weights are the source's, but for rounding" in terminal_text.shown([found.record()])
    reference.judge("size")
    assert reference.record().integrity is None
    assert terminal.integrity_lines([reference.record()]) == []


@pytest.mark.parametrize("check", ["size", "weights"])
def test_without_a_walk_the_weights_are_looked_at_too(directory, tmp_path, check):
    tampered(cell(directory, tmp_path).artifact)
    found = cell(directory, tmp_path)
    _ = found.judge("size") if check == "size" else found.samples("weights")
    names_both(found.record().integrity)
    names_both(found.problems)


def test_what_was_found_is_kept_until_the_files_change(directory, tmp_path, monkeypatch):
    first = cell(directory, tmp_path)
    first.judge("size")
    looked = []
    monkeypatch.setattr(inspection, "_compared", lambda *each: looked.append(each[0].name))
    again = cell(directory, tmp_path)
    again.judge("size")
    assert again.problems == ()
    assert looked == []
    monkeypatch.undo()
    tampered(first.artifact)
    names = cell(directory, tmp_path)
    names.judge("size")
    names_both(names.problems)


def test_weights_that_never_lie_on_disk_are_looked_at_as_they_are_encoded(directory, tmp_path):
    source = open_model(directory)
    chosen = recipe("int4-rtn")
    streamed = compress(source, chosen, 0, tmp_path / "cache", stored=False)
    found = Inspected(streamed, source).finish()
    assert (found.problems, found.tensors) == ((), len(source.parameters))


def test_every_parameter_is_looked_at_once_and_comes_out_as_it_is(directory, tmp_path, monkeypatch):
    source = open_model(directory)
    artifact = compress(source, recipe("int4-rtn"), 0, tmp_path / "cache")
    asked = []
    original = source.array
    monkeypatch.setattr(source, "array", lambda name: asked.append(name) or original(name))
    inspected = Inspected(artifact, source)
    for name in [*artifact.names, *artifact.names[:3]]:
        np.testing.assert_array_equal(inspected.dense(name), artifact.dense(name))
    inspected.finish()
    assert asked == list(artifact.names)
    assert inspected.tensor(NORM) == artifact.tensor(NORM)
    assert inspected.manifest is artifact.manifest


def test_a_walk_gets_what_the_engine_decoded_and_the_host_looks_at_it_once(directory, tmp_path):
    source = open_model(directory)
    artifact = compress(source, recipe("int4-rtn"), 0, tmp_path / "cache")
    artifact.decoder = device = Device()
    inspected = Inspected(artifact, source)
    walked = [inspected.dense(name) for name in [*artifact.names, *artifact.names]]
    decoded = [each for each in walked if isinstance(each, Device.Array)]
    assert device.fetched == decoded[: len(decoded) // 2]
    assert len(device.fetched) == sum(artifact.quantizer(name) is not None for name in artifact.names)
    assert inspected.finish().problems == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_the_self_test_is_named(directory, tmp_path, damage):
    source = open_model(directory)
    artifact = compress(source, recipe("int4-rtn"), 0, tmp_path / "cache")
    assert Inspected(DAMAGES[damage](artifact, source, 0), source).finish().problems


def test_the_self_test_says_what_was_named(directory, tmp_path):
    found = list(selftest.findings(cell(directory, tmp_path)))
    assert not found[0].named
    assert all(each.named for each in found[1:])
    lines = markdown_table.table(*selftest.as_table(found))
    assert lines[0].endswith("| verdict | integrity |")
    assert lines[2].endswith("| nothing |")
    assert lines[3].endswith(f"| {len(found[1].named)} findings |")


def test_a_long_list_of_findings_is_cut_in_the_terminal(directory, tmp_path):
    found = cell(directory, tmp_path)
    found.judge("size")
    many = dataclasses.replace(found.record(), integrity=tuple(f"matrix {n} is wrong" for n in range(9)))
    lines = terminal.integrity_lines([many])
    assert len(lines) == terminal.FINDINGS_SHOWN + 1
    assert lines[-1].endswith("and 4 more findings, in its record")
    assert len(terminal.integrity_lines([many], most=None)) == 9
