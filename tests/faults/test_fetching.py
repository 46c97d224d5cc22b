"""A fetch either completes with the right bytes, or ends with one clear error; a later run never uses half a file."""

import hashlib
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import open_model
from faults.acts import altered, cut, flipped, redirected, reset, stalled, stalled_midway, status
from faults.conftest import TINY, contents

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.errors import ModelError, OfflineError, QuantbenchError
from pytest_quantbench.fetch import download, transfer

INFO = r"hub GET /api/models/someone/tiny(\?|$)"
CONFIG = r"hub (HEAD|GET) .*/config\.json"
WEIGHTS = r"hub HEAD .*\.safetensors"
BODY = r"cdn GET /"


def swap_sha256(body):
    """Another checksum for the weights in the Hub's listing."""
    return re.sub(rb'"sha256": "[0-9a-f]{64}"', b'"sha256": "' + b"ab" * 32 + b'"', body)


def other_size(body):
    """Weights of another size in the Hub's listing."""
    return re.sub(rb'"size": (\d{5,})', rb'"size": 1\1', body)


def path_as_commit(body):
    return re.sub(rb'"sha": "\w+"', b'"sha": "../../x"', body)


# What goes wrong.
FAULTS = {
    "nothing": (INFO, status(500), 0),
    "body cut once": (BODY, cut(50_000), 1),
    "body cut three times": (BODY, cut(50_000), 3),
    "body always cut at its start": (BODY, cut(0), None),
    "body always cut": (BODY, cut(50_000), None),
    "body shorter than listed": (BODY, altered(lambda body: body[:-7]), None),
    "wrong content once": (BODY, altered(flipped), 1),
    "wrong content": (BODY, altered(flipped), None),
    "wrong config once": (CONFIG, altered(flipped), 2),
    "wrong config": (CONFIG, altered(flipped), None),
    "wrong SHA-256 in the listing": (INFO, altered(swap_sha256), None),
    "wrong size in the listing": (INFO, altered(other_size), None),
    "401": (INFO, status(401), None),
    "403 gated": (WEIGHTS, status(403, "GatedRepo"), None),
    "403 gated at once": (INFO, status(403, "GatedRepo"), None),
    "403": (CONFIG, status(403), None),
    "404 repository": (INFO, status(404, "RepoNotFound"), None),
    "404 file": (WEIGHTS, status(404, "EntryNotFound"), None),
    "404 at the CDN": (BODY, status(404), None),
    "429 once": (INFO, status(429, Retry_After="2"), 1),
    "429 once for a body": (BODY, status(429, Retry_After="2"), 1),
    "429 with an hour": (INFO, status(429, Retry_After="3600"), None),
    "429 for ever": (WEIGHTS, status(429, Retry_After="2"), None),
    "500 once": (INFO, status(500), 1),
    "500 once for a file": (WEIGHTS, status(500), 1),
    "500 once for a body": (BODY, status(500), 1),
    "503 for ever": (INFO, status(503), None),
    "503 for ever for a body": (BODY, status(503), None),
    "connection reset once": (BODY, reset, 1),
    "connection reset": (BODY, reset, None),
    "not a Hub": (INFO, altered(lambda _: b"<html>Please log in</html>"), None),
    "another Hub": (INFO, altered(lambda _: b'{"id": 1}'), None),
    "a list": (INFO, altered(lambda _: b"[1, 2]"), None),
    "a commit that is a path": (INFO, altered(path_as_commit), None),
    "redirects in a ring": (CONFIG, redirected("/someone/tiny/resolve/main/config.json"), None),
}
STALLS = {
    "no answer once": (INFO, stalled, 1),
    "no answer": (INFO, stalled, None),
    "no answer for a file": (WEIGHTS, stalled, None),
    "a body that stalls once": (BODY, stalled_midway, 1),
    "a body that stalls": (BODY, stalled_midway, None),
}
# How it ends where it does not end well; the others complete.
ERRORS = {
    "body always cut at its start": (OfflineError, r"model\.safetensors of someone/tiny could not be fetched"),
    "body always cut": (OfflineError, r"could not be fetched from .* \(.*received 50000 bytes, expected \d+\)"),
    "body shorter than listed": (OfflineError, r"model\.safetensors of .* could not be fetched .*Consistency check"),
    "wrong content": (
        ModelError,
        r"model\.safetensors of someone/tiny arrived wrong twice: its checksum is [0-9a-f]{64}",
    ),
    "wrong config": (ModelError, r"config\.json of someone/tiny arrived wrong twice"),
    "wrong SHA-256 in the listing": (ModelError, r"arrived wrong twice.*the Hub says abab"),
    "wrong size in the listing": (ModelError, r"it has \d+ bytes, the Hub says 1\d+"),
    "401": (ModelError, r"not on the Hub, or private, or HF_TOKEN is no valid token \(401\)"),
    "403 gated": (ModelError, r"gated: accept its terms on https://huggingface\.co/someone/tiny and set HF_TOKEN"),
    "403 gated at once": (ModelError, r"^someone/tiny is gated: .*HF_TOKEN"),
    "403": (ModelError, r"may not be read with this token \(403: no"),
    "404 repository": (ModelError, r"^someone/tiny is not on the Hub \(404"),
    "404 file": (ModelError, r"^model\.safetensors of someone/tiny is not on the Hub"),
    "404 at the CDN": (ModelError, r"^model\.safetensors of someone/tiny is not on the Hub"),
    "429 with an hour": (OfflineError, r"patience \(429, in 3600 s\)"),
    "429 for ever": (OfflineError, r"patience \(429, in 2 s\)"),
    "503 for ever": (OfflineError, r"^someone/tiny could not be fetched from .* \(no"),
    "503 for ever for a body": (OfflineError, r"^model\.safetensors of someone/tiny could not be fetched"),
    "no answer": (OfflineError, r"could not be fetched from .* \(timed out\)"),
    "no answer for a file": (OfflineError, r"could not be fetched from .* \(timed out\)"),
    "a body that stalls": (OfflineError, r"could not be fetched from .* \(timed out\)"),
    "connection reset": (OfflineError, r"could not be fetched from .* \(.*([Rr]eset|disconnected)"),
    "not a Hub": (OfflineError, r"someone/tiny could not be fetched"),
    "another Hub": (OfflineError, r"names None as its commit"),
    "a list": (OfflineError, r"does not answer as the Hub does"),
    "a commit that is a path": (OfflineError, r"names '\.\./\.\./x' as its commit"),
    "redirects in a ring": (OfflineError, r"redirect"),
}


def check_outcome(hub, files, fault, error):
    """With the fault: the right bytes, or that error and nothing in the cache. After it: the right bytes."""
    commit = hub.publish("someone/tiny", files)
    hub.fault(*fault)
    if error is not None:
        kind, message = error
        with pytest.raises(kind, match=message) as caught:
            download.fetch(TINY, offline=False)
        assert "\n" not in str(caught.value)
        with pytest.raises(OfflineError, match="is not in the Hub's cache"):
            download.fetch(TINY, offline=True)
        hub.faults.clear()
    directory, revision = download.fetch(TINY, offline=False)
    assert revision == commit == directory.name
    assert contents(directory) == {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    assert download.fetch(TINY, offline=True) == (directory, commit)


@pytest.mark.parametrize("name", FAULTS)
def test_right_bytes_or_one_clear_error(hub, tiny_files, name):
    check_outcome(hub, tiny_files, FAULTS[name], ERRORS.get(name))


@pytest.mark.parametrize("name", STALLS)
def test_right_bytes_or_one_clear_error_in_time(hub, tiny_files, impatient, name):
    check_outcome(hub, tiny_files, STALLS[name], ERRORS.get(name))


def test_a_cut_transfer_goes_on_where_it_was_cut(hub, tiny_files, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # 10 MB is more than all of this model
    hub.publish("someone/tiny", tiny_files)
    hub.fault(BODY, cut(50_000), times=2)
    download.fetch(TINY, offline=False)
    assert [request.range for request in hub.asked(BODY)] == [None, "bytes=50000-", "bytes=100000-"]


def test_what_came_whole_is_not_transferred_again(hub, sharded_files):
    hub.publish("someone/tiny", sharded_files)
    hub.fault(r"hub HEAD .*model-00002", status(403, "GatedRepo"), times=1)
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors of someone/tiny is gated"):
        download.fetch(TINY, offline=False)
    assert not download.is_here(TINY)
    assert len(hub.asked(BODY)) == 1
    download.fetch(TINY, offline=False)
    assert len(hub.asked(BODY)) == 2
    assert download.is_here(TINY)


def test_the_pause_is_the_one_that_the_hub_asks_for(hub, tiny_files, waits):
    hub.publish("someone/tiny", tiny_files)
    hub.fault(INFO, status(429, Retry_After="7"), times=1)
    download.fetch(TINY, offline=False)
    assert waits == [7.0]


def test_a_commit_that_moves_meanwhile_is_not_mixed_with_the_next(hub, tiny_files, small_model):
    first = hub.publish("someone/tiny", tiny_files)
    later = {path.name: path.read_bytes() for path in small_model(seed=1).iterdir()}

    def moving(exchange):
        hub.publish("someone/tiny", later)
        exchange.serve()

    hub.fault(CONFIG, moving, times=1)
    directory, commit = download.fetch(TINY, offline=False)
    assert commit == first
    assert (directory / "model.safetensors").read_bytes() == tiny_files["model.safetensors"]
    assert download.fetch(TINY, offline=False)[1] == hub.repositories["someone/tiny"].main != first


def test_files_of_another_commit_than_asked_for_are_refused(hub, tiny_files):
    commit = hub.publish("someone/tiny", tiny_files)

    def of_another(exchange):
        body = tiny_files["config.json"]
        exchange.answer(200, {"ETag": '"x"', "X-Repo-Commit": "f" * 40}, body)

    hub.fault(CONFIG, of_another)
    with pytest.raises(ModelError, match=f"came as of another commit than {commit}"):
        download.fetch(TINY, offline=False)


def test_a_model_that_was_renamed_is_followed(hub, tiny_files):
    hub.publish("someone/renamed", tiny_files)
    hub.fault(INFO, lambda exchange: redirected(f"{hub.url}/api/models/someone/renamed?blobs=true")(exchange))
    hub.fault(
        r"hub \w+ /someone/tiny/resolve/",
        lambda exchange: redirected(exchange.path.replace("/someone/tiny/", "/someone/renamed/"))(exchange),
    )
    directory, _ = download.fetch(TINY, offline=False)
    assert (directory / "model.safetensors").read_bytes() == tiny_files["model.safetensors"]


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, tiny_files):
    hub.publish("someone/tiny", tiny_files)
    download.fetch(TINY, offline=False)
    assert {request.token for request in hub.asked("^hub .*someone/tiny")} == {"Bearer hf_ours"}
    assert [request.token for request in hub.asked("^cdn ")] == [None]


def test_a_hub_that_is_down_is_no_obstacle_for_what_is_here(hub, tiny_files):
    hub.publish("someone/tiny", tiny_files)
    directory, commit = download.fetch(TINY, offline=False)
    hub.fault(".", status(503))
    with pytest.warns(UserWarning, match=f"Going on with what is in the cache, commit {commit}"):
        assert download.fetch(TINY, offline=False) == (directory, commit)


def test_offline_asks_nobody(hub, tiny_files):
    hub.publish("someone/tiny", tiny_files)
    with pytest.raises(OfflineError, match=r"someone/tiny is not in the Hub's cache .* --offline forbids"):
        download.fetch(TINY, offline=True)
    assert hub.requests == []
    download.fetch(TINY, offline=False)
    hub.requests.clear()
    download.fetch(TINY, offline=True)
    assert hub.requests == []


def test_huggingface_hubs_own_switch_for_offline_counts(hub, tiny_files, monkeypatch):
    hub.publish("someone/tiny", tiny_files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineError, match=r"could not be fetched .*unset the `HF_HUB_OFFLINE`"):
        download.fetch(TINY, offline=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    before = download.fetch(TINY, offline=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.warns(UserWarning, match="Going on with what is in the cache"):
        assert download.fetch(TINY, offline=False) == before


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://127.0.0.1", "http://127.0.0.1:x", "http://127.0.0.1:9"])
def test_an_endpoint_that_is_none_is_named(hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(OfflineError, match=rf"someone/tiny could not be fetched from {endpoint} \("):
        download.fetch(TINY, offline=False)


@pytest.mark.parametrize("act", [altered(flipped), cut(50_000), status(500)])
def test_four_at_once_transfer_each_file_once(hub, sharded_files, act):
    """As four sessions would: each opens the lock for itself. One transfer is repeated for the fault."""
    commit = hub.publish("someone/tiny", sharded_files)
    hub.fault(BODY, act, times=1)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: download.fetch(TINY, offline=False), range(4)))
    ((directory, revision),) = found
    assert revision == commit
    assert contents(directory) == {name: hashlib.sha256(body).hexdigest() for name, body in sharded_files.items()}
    assert len(hub.asked(BODY)) == 3


def test_a_run_that_is_killed_leaves_nothing_that_the_next_one_trips_over(hub, sharded_files):
    hub.publish("someone/tiny", sharded_files)
    hub.fault(BODY, stalled_midway)
    code = (
        "from pytest_quantbench.catalog.models import user_model; "
        "from pytest_quantbench.fetch.download import fetch; "
        "fetch(user_model('someone/tiny'), offline=False)"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(hub.asked(BODY)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -9
    hub.faults.clear()
    assert not download.is_here(TINY)
    directory, _ = download.fetch(TINY, offline=False)
    assert contents(directory) == {name: hashlib.sha256(body).hexdigest() for name, body in sharded_files.items()}


def test_a_cache_that_is_only_read_will_do(hub, tiny_files, monkeypatch):
    hub.publish("someone/tiny", tiny_files)
    before = download.fetch(TINY, offline=False)

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    for method in ("mkdir", "write_text", "unlink"):  # the tests' user may be root, whom no mode stops
        monkeypatch.setattr(Path, method, closed)
    assert download.fetch(TINY, offline=False) == before


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_was_damaged_in_the_cache_is_named_and_left_alone(hub, tiny_files, monkeypatch, name, offline):
    hub.publish("someone/tiny", tiny_files)
    directory, _ = download.fetch(TINY, offline=False)
    (directory / name).resolve().write_bytes(flipped(tiny_files[name]))
    monkeypatch.setattr(download, "_fetched", {})
    with pytest.raises(ModelError, match=rf"{name} is damaged: its checksum .* delete .*/blobs/\w+ and run again"):
        download.fetch(TINY, offline=offline)
    assert (directory / name).exists()
    (directory / name).resolve().unlink()
    download.fetch(TINY, offline=False)
    assert (directory / name).read_bytes() == tiny_files[name]


def test_what_this_run_transferred_is_on_record_and_nothing_else(hub, tiny_files, monkeypatch):
    hub.publish("someone/tiny", tiny_files)
    directory, _ = download.fetch(TINY, offline=False)
    assert set(download._fetched["someone/tiny"]) == set(directory.iterdir())
    monkeypatch.setattr(download, "_fetched", {})
    download.fetch(TINY, offline=False)
    assert download._fetched == {}
    changed = hub.publish("someone/tiny", tiny_files | {"config.json": tiny_files["config.json"] + b"\n"})
    download.fetch(TINY, offline=False)
    (path,) = download._fetched["someone/tiny"]  # the weights of the new commit were here already
    assert (path.parent.name, path.name) == (changed, "config.json")


def test_a_cache_without_links_works_too(hub, tiny_files, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    hub.publish("someone/tiny", tiny_files)
    hub.fault(BODY, altered(flipped), times=1)
    directory, _ = download.fetch(TINY, offline=False)
    assert not (directory / "model.safetensors").is_symlink()
    assert open_model(directory).dtype == "bfloat16"


def test_a_fetched_model_is_a_checkpoint_with_its_commit(hub, sharded_files):
    commit = hub.publish("someone/tiny", sharded_files)
    checkpoint = Checkpoint(*download.fetch(TINY, offline=False))
    assert checkpoint.revision == commit
    assert [file.name for file in checkpoint.files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def test_a_disk_without_room_is_named_before_the_weights(hub, tiny_files, monkeypatch):
    hub.publish("someone/tiny", tiny_files)
    monkeypatch.setattr(transfer, "free_bytes", lambda _: 100_000)
    with pytest.raises(QuantbenchError, match=r"someone/tiny takes 0\.0 GB more at .*hub and 0\.0 GB are free"):
        download.fetch(TINY, offline=False)
    assert hub.asked(BODY) == []


def test_a_cache_that_cannot_be_written_is_named(hub, tiny_files, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "taken"))
    hub.publish("someone/tiny", tiny_files)
    with pytest.raises(QuantbenchError, match=r"cannot be written to .*taken.*Set HF_HOME to another folder"):
        download.fetch(TINY, offline=False)
