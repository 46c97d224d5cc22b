"""Candidates of the Hub: the right bytes at the revision that was asked for, or one clear error."""

import json

import pytest
from faults.acts import altered, cut, flipped, status
from faults.conftest import contents
from gates import GATE
from mlx_models import as_mlx

from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.checkpoints.formats.folder import base_model_of
from pytest_quantbench.errors import DiskError, ModelError, OfflineError
from pytest_quantbench.fetch import candidates, download, transfer

SOURCE = "someone/tiny-GGUF"
FILES = {name: f"GGUF {name}".encode() * 9000 for name in ("t-Q4_0.gguf", "t-Q8_0.gguf", "imatrix.dat")}
PARTS = {f"BF16/t-0000{n}-of-00002.gguf": bytes([n]) * 90_000 for n in (1, 2)}
BODY = r"cdn GET /"


@pytest.fixture(autouse=True)
def a_process_of_its_own(monkeypatch):
    """What a run has checked it does not check again."""
    monkeypatch.setattr(candidates, "_found", {})


def again(monkeypatch):
    monkeypatch.setattr(candidates, "_found", {})


def test_one_file_of_many_is_fetched_and_found_offline(hub, monkeypatch):
    commit = hub.publish(SOURCE, FILES)
    path = candidates.find(f"{SOURCE}:*Q4_0.gguf", offline=False)
    assert (path.read_bytes(), path.name, path.parent.name) == (FILES["t-Q4_0.gguf"], "t-Q4_0.gguf", commit)
    assert len(hub.asked(BODY)) == 1
    hub.requests.clear()
    again(monkeypatch)
    assert candidates.find(f"{SOURCE}:*Q4_0.gguf", offline=True) == path
    assert hub.requests == []
    with pytest.raises(OfflineError, match=r"tiny-GGUF:t-Q8_0\.gguf is not in the Hub's cache .*--offline forbids"):
        candidates.find(f"{SOURCE}:t-Q8_0.gguf", offline=True)


def test_the_model_card_comes_along_which_may_name_the_original(hub):
    card = b"---\nbase_model: owner/name\n---\n"
    hub.publish(SOURCE, FILES | {"README.md": card, "config.json": b"{}"})
    path = candidates.find(f"{SOURCE}:*Q4_0.gguf", offline=False)
    assert sorted(each.name for each in path.parent.iterdir()) == ["README.md", "t-Q4_0.gguf"]
    assert base_model_of(path.parent) == "owner/name"


def test_what_a_process_has_found_it_does_not_fetch_or_check_again(hub):
    hub.publish(SOURCE, FILES)
    path = candidates.find(f"{SOURCE}:t-Q4_0.gguf", offline=False)
    hub.requests.clear()
    assert candidates.find(f"{SOURCE}:t-Q4_0.gguf", offline=False) == path
    assert hub.requests == []


def test_all_parts_of_a_file_come_from_a_folder_of_the_repository(hub, monkeypatch):
    hub.publish(SOURCE, FILES | PARTS)
    first = candidates.find(f"{SOURCE}:BF16/*", offline=False)
    assert first.name == "t-00001-of-00002.gguf"
    assert {path.read_bytes() for path in first.parent.iterdir()} == set(PARTS.values())
    again(monkeypatch)
    assert candidates.find(f"{SOURCE}:t-00002-of-00002.gguf", offline=True) == first
    (first.parent / "t-00002-of-00002.gguf").unlink()
    again(monkeypatch)
    with pytest.raises(OfflineError, match="not in the Hub's cache"):
        candidates.find(f"{SOURCE}:BF16/*", offline=True)


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/7", "commit"])
def test_a_branch_a_tag_or_a_commit_is_fetched_at_that(hub, monkeypatch, revision):
    old = hub.publish(SOURCE, {"t.gguf": b"old"}, reference="v1.0" if revision == "commit" else revision)
    hub.publish(SOURCE, {"t.gguf": b"new"})
    asked = f"{SOURCE}@{old if revision == 'commit' else revision}"
    path = candidates.find(asked, offline=False)
    assert (path.read_bytes(), path.parent.name) == (b"old", old)
    assert candidates.find(SOURCE, offline=False).read_bytes() == b"new"
    again(monkeypatch)
    assert candidates.find(asked, offline=True) == path
    assert candidates.find(SOURCE, offline=True).read_bytes() == b"new"


def test_a_directory_comes_with_its_card_and_without_what_is_not_read(hub, small_model, tmp_path):
    directory = as_mlx(small_model(), tmp_path / "q4", bits=4)
    files = {path.name: path.read_bytes() for path in directory.iterdir()} | {
        "README.md": b"---\nbase_model: a/b\n---\n"
    }
    others = {"modeling_tiny.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x04.", "onnx/model.safetensors": b""}
    hub.publish("someone/tiny-4bit", files | others)
    found = candidates.find("someone/tiny-4bit", offline=False)
    assert {name: (found / name).read_bytes() for name in contents(found)} == files
    assert candidates.plain_name("someone/tiny-4bit", found) == "tiny-4bit"


def test_all_shards_of_a_directory_come(hub, sharded_files, monkeypatch):
    hub.publish("someone/tiny", sharded_files)
    found = candidates.find("someone/tiny", offline=False)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == sharded_files
    (found / "model-00002-of-00002.safetensors").unlink()
    again(monkeypatch)
    with pytest.raises(OfflineError, match="not in the Hub's cache"):
        candidates.find("someone/tiny", offline=True)


def test_a_shard_that_the_hub_lacks_is_named(hub, sharded_files):
    files = {name: body for name, body in sharded_files.items() if "00002-of" not in name}
    hub.publish("someone/tiny", files)
    with pytest.raises(ModelError, match=r"names model-00002-of-00002\.safetensors, which is not on the Hub"):
        candidates.find("someone/tiny", offline=False)


@pytest.mark.parametrize(
    ("source", "fault", "kind", "told"),
    [
        (
            SOURCE,
            None,
            ModelError,
            r"is 2 GGUF files\. Name one as someone/tiny-GGUF:FILE\. They are t-Q4_0\.gguf, t-Q8",
        ),
        (f"{SOURCE}:q5.gguf", None, ModelError, r"has no GGUF file q5\.gguf\. Name one as .* t-Q4_0\.gguf, t-Q8_0"),
        (f"{SOURCE}@v9:*Q4*", None, ModelError, r"^someone/tiny-GGUF@v9 is not on the Hub \(404: no: RevisionNotFound"),
        ("someone/else", None, ModelError, r"^someone/else is not on the Hub \(404"),
        (
            f"{SOURCE}:*Q4*",
            ("hub GET /api", status(403, "GatedRepo"), None),
            ModelError,
            "is gated: accept its terms on",
        ),
        (f"{SOURCE}:*Q4*", ("hub HEAD", status(403, "GatedRepo"), None), ModelError, r"^t-Q4_0\.gguf of .* is gated"),
        (
            f"{SOURCE}:*Q4*",
            ("hub GET /api", status(401), None),
            ModelError,
            r"or private, or HF_TOKEN is no valid token",
        ),
        (f"{SOURCE}:*Q4*", (BODY, altered(flipped), None), ModelError, r"t-Q4_0\.gguf of .* arrived wrong twice: its"),
        (f"{SOURCE}:*Q4*", (BODY, cut(5), None), OfflineError, r"t-Q4_0\.gguf of .* could not be fetched"),
        (f"{SOURCE}:*Q4*", ("hub GET /api", status(503), None), OfflineError, "could not be fetched"),
    ],
)
def test_what_cannot_be_had_is_one_sentence_and_leaves_nothing(hub, monkeypatch, source, fault, kind, told):
    hub.publish(SOURCE, FILES)
    if fault is not None:
        hub.fault(*fault)
    with pytest.raises(kind, match=told) as caught:
        candidates.find(source, offline=False)
    assert "\n" not in str(caught.value)
    assert "--model" not in str(caught.value)
    with pytest.raises(OfflineError):
        candidates.find(f"{SOURCE}:*Q4*", offline=True)
    hub.faults.clear()
    assert candidates.find(f"{SOURCE}:*Q4*", offline=False).read_bytes() == FILES["t-Q4_0.gguf"]


@pytest.mark.parametrize("name", PARTS)
def test_a_wrong_part_in_a_folder_is_not_kept(hub, name):
    hub.publish(SOURCE, PARTS)
    hub.fault(BODY, altered(flipped), times=4)
    with pytest.raises(ModelError, match="arrived wrong twice"):
        candidates.find(SOURCE, offline=False)
    hub.faults.clear()
    path = candidates.find(SOURCE, offline=False)
    assert (path.parents[1] / name).read_bytes() == PARTS[name]


def test_a_file_of_the_cache_that_was_damaged_is_named_and_left(hub, monkeypatch):
    hub.publish(SOURCE, FILES)
    path = candidates.find(f"{SOURCE}:*Q4*", offline=False)
    path.resolve().write_bytes(b"GGUF")
    for offline in (True, False):
        again(monkeypatch)
        with pytest.raises(ModelError, match=r"t-Q4_0\.gguf is damaged: .*left alone: delete"):
            candidates.find(f"{SOURCE}:*Q4*", offline=offline)
    assert path.read_bytes() == b"GGUF"


def test_a_hub_that_is_down_is_no_obstacle_for_what_is_here(hub, monkeypatch):
    hub.publish(SOURCE, FILES)
    path = candidates.find(f"{SOURCE}:*Q4*", offline=False)
    hub.fault(".", status(503))
    again(monkeypatch)
    with pytest.warns(UserWarning, match="could not be fetched .*Going on with .*gguf of the cache"):
        assert candidates.find(f"{SOURCE}:*Q4*", offline=False) == path


def test_a_disk_without_room_is_named_before_the_file(hub, monkeypatch):
    hub.publish(SOURCE, FILES)
    monkeypatch.setattr(transfer, "free_bytes", lambda _: 1000)
    with pytest.raises(DiskError, match=r"someone/tiny-GGUF takes 0\.0 GB more at .*Set HF_HOME to a larger disk"):
        candidates.find(f"{SOURCE}:*Q4*", offline=False)
    assert hub.asked(BODY) == []


@pytest.mark.parametrize("first", ["candidate", "model"])
def test_what_a_disk_plan_deletes_are_never_files_of_a_candidate(hub, tiny_files, first):
    """Not even where a branch of the model's own repository has the very same weights."""
    hub.publish("someone/tiny", tiny_files)
    hub.publish("someone/tiny", tiny_files | {"config.json": tiny_files["config.json"] + b" "}, reference="other")
    if first == "model":
        download.fetch(user_model("someone/tiny"), offline=False)
    candidate = candidates.find("someone/tiny@other", offline=False)
    download.fetch(user_model("someone/tiny"), offline=False)
    assert download.delete_weights("someone/tiny") == 0
    assert (candidate / "model.safetensors").read_bytes() == tiny_files["model.safetensors"]


def test_a_model_that_a_candidate_is_of_the_same_commit_as_stays_while_that_is_in_use(hub, tiny_files):
    hub.publish("someone/tiny", tiny_files)
    download.fetch(user_model("someone/tiny"), offline=False)
    with candidates.in_use("someone/tiny"):
        path = candidates.find("someone/tiny", offline=False)
        assert download.delete_weights("someone/tiny") == 0
    assert (path / "model.safetensors").is_file()
    assert json.loads((path / "config.json").read_bytes())


def test_a_session_fetches_its_candidates_when_it_starts_and_states_their_bits(hub, small_model, tmp_path, pytester):
    """Also where items are only collected: what their level is depends on the files."""
    original = small_model()
    directory = as_mlx(original, tmp_path / "q4", bits=4)
    hub.publish("someone/tiny-4bit", {path.name: path.read_bytes() for path in directory.iterdir()}, reference="v2")
    hub.publish("someone/tiny-4bit", {"README.md": b"moved"})
    pytester.makepyfile(GATE)
    given = ("--model", str(original), "--candidate", "someone/tiny-4bit@v2", "-p", "no:cacheprovider")
    result = pytester.runpytest_inprocess(*given, "--offline", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*someone/tiny-4bit@v2 is not in the Hub's cache * and --offline forbids fetching it*"]
    )
    for more in ((), ("--offline",)):
        result = pytester.runpytest_inprocess(*given, *more, "--collect-only", "-m", "int4")
        result.stdout.fnmatch_lines(
            [
                "quantbench: candidate tiny-4bit: MLX, 4.50 bits per weight in its layers: judged as int4",
                "*llama-0-0-tiny-4bit*",
            ]
        )
    assert len(hub.asked(BODY)) == 1
    result = pytester.runpytest_inprocess(*given, "-k", "tiny-4bit", "--results", "out", "--disk-plan", "B")
    result.assert_outcomes(passed=1)
    assert (pytester.path / "out" / "llama-0-0_candidate_tiny-4bit.json").is_file()
    assert candidates.find("someone/tiny-4bit@v2", offline=True).is_dir()
