"""`quantbench conform-engine`: what is wrong is refused, each for its own reason, and what is sound is not."""

import inspect
import re

import bad_engines
import pytest
from numpy_engine import NumpyEngine

from pytest_quantbench import engines
from pytest_quantbench.cli.main import main
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.workbench import engine_conformance
from pytest_quantbench.workbench.engine_models import small_models

FORWARD, BRANCHES, WINDOW = "is_the_forward_pass", "branches_go_on_from_their_rows", "keeps_to_a_window"
TRACKS, ENDS, HASH = "tracks_do_not_touch", "a_track_that_ends_is_left_out", "the_hash_is_of_decoded_weights"
LOGITS, SHOWN, ROUNDED = "logits_say_what_they_mean", "shows_the_inputs", "rounding_is_the_other_type"
WRITES, STOPS, TIMES = "writes_the_likeliest_tokens", "answers_end_where_they_are_told", "times_every_token"
OPENS, REFUSES, LAYERS = "opens_every_parameter", "refuses_in_a_sentence", "layers_agree_with_decode"
HELD, HELD_BRANCHES = "a_walk_is_decoding_with_its_cache", "branches_are_held_like_their_texts"
HELD_TRACKS, HELD_ANSWERS = "a_cache_leaves_other_tracks_alone", "answers_are_written_with_the_cache"
REACHED = "what_was_reached_is_told"
ROWS, REQUESTS, BATCH_BYTES = "rows_are_single_runs", "requests_are_single_runs", "knows_what_a_batch_takes"
OFF = r"off by [\d.]+ nats"
REFUSED = {
    "Flies": ("says_what_it_is", "fly"),
    "Nameless": ("says_what_it_is", "'name', .*'read_bytes_per_second', .* are missing"),
    "WrongRope": (FORWARD, OFF),
    "NeighboursTurned": (FORWARD, OFF),
    "SeesTheNext": (FORWARD, OFF),
    "SeesNotItself": (FORWARD, OFF),
    "Unscaled": (FORWARD, OFF),
    "GroupsSwapped": (FORWARD, OFF),
    "NoEpsilon": (FORWARD, OFF),
    "GatesTheOther": (FORWARD, OFF),
    "RoundedLogits": (FORWARD, OFF),
    "RoundedStates": (FORWARD, OFF),
    "RoundsNothing": (ROUNDED, "rounded activations change nothing"),
    "WindowIgnored": (WINDOW, OFF),
    "WindowTooLong": (WINDOW, OFF),
    "BranchesAnew": (BRANCHES, OFF),
    "BranchesAtWidth": (BRANCHES, OFF),
    "PaddingSeen": (BRANCHES, OFF),
    "TracksMixed": (TRACKS, "track 1 of three"),
    "NanEndsAll": (ENDS, "One of the tracks"),
    "NanGoesOn": (ENDS, "a track whose numbers ended gives logits"),
    "RunsOneMore": (FORWARD, OFF),
    "StepsBackwards": ("steps_are_the_run", "step by step"),
    "PlaceByPlace": ("logits_at_are_those_of_all", "positions 4 and 5 of two rows"),
    "FilesAreHalf": ("states_may_go_to_files", "hidden states in files"),
    "RulesIgnored": ("inputs_go_through_their_rules", OFF),
    "HashOfNames": (HASH, "weights that differ have one hash"),
    "HashOfRounded": (HASH, "weights that differ have one hash"),
    "HashByTrack": (HASH, "another hash in company than alone"),
    "HashOfItsOwn": (HASH, "is not the hash that the protocol defines"),
    "Shown": (SHOWN, "second moments of the inputs of model.layers.0.self_attn.q_proj differs"),
    "ShowsTheFirstRow": (SHOWN, "second moments"),
    "SharesTooMuch": (SHOWN, r"has shape \(32, 32\), not \(48, 48\)"),
    "ObserveMoves": (SHOWN, "second moments of the inputs of model.layers.1"),
    "Unlikeliest": (LOGITS, "likeliest tokens"),
    "LeavesSomeOut": ("equal_logits_are_told_as_such", "the perplexity is 1024.000, not 2048"),
    "DivergesMore": (LOGITS, "a divergence is off by"),
    "KeepsUnnormed": (LOGITS, "a log-probability that is kept is off by 1 nats"),
    "DecodesRoughly": ("decodes_every_method", "aqlm at . bits, decoded, differs"),
    "LayersWithoutRules": (LAYERS, "the layer of a .* matrix on numpy differs from decode"),
    "SavesFloats": ("writes_what_it_is_given", "a.codes comes back"),
    "TakesAnything": (REFUSES, "an architecture that nobody has is taken without a ModelError"),
    "MissingIsKeyError": (REFUSES, "KeyError"),
    "NanIsTaken": (REFUSES, "a weight that is no number is taken without a WeightError"),
    "OriginsSwapped": (OPENS, "gate_proj"),
    "KnowsNoEnd": ("knows_its_capacity", "None positions, not 128"),
    "GainsMemory": ("measures_itself", "not in proportion"),
    "ForgetsTheLast": (WRITES, "are written, the likeliest are"),
    "IgnoresStops": (STOPS, "before '.+' it ends with"),
    "KeepsTheEnd": (STOPS, "at an end token it ends with"),
    "TimesTheText": (TIMES, "6 tokens have 1 moments"),
    "ReadsNothing": (TIMES, "a token reads 0 bytes of matrices of"),
    "HasNoKernels": (TIMES, "kernels = {}"),
    "StepsSomehow": (TIMES, "step = 'somehow' is none of"),
    "ReadsInNoTime": ("measures_itself", "memory is read at"),
    "CacheInFull": (HELD, "each token at once changes nothing: it is not held so"),
    "RoundsTwice": (HELD, OFF),
    "SeesAllOld": (HELD, OFF),
    "AgesLate": (HELD, OFF),
    "RoundsPadding": (HELD_BRANCHES, OFF),
    "HoldsKeysAlone": (HELD, OFF),
    "TurnsNothing": (HELD, "keys rotated, behind two tokens in full is off"),
    "SinksRounded": (HELD, "keys rotated, behind two tokens in full is off"),
    "CacheForAll": (HELD_TRACKS, "the track (before|behind) one with a cache"),
    "AnswersInFull": (HELD_ANSWERS, "other tokens than the likeliest are written"),
    "CountsEveryPlace": (REACHED, "which places hang on a token in few bits is told wrong"),
    "CountsNoParents": (REACHED, "which places hang on a token in few bits is told wrong"),
    "CountsPlainTracks": (REACHED, "a track with its cache in 16 bits is told to have one in few bits"),
    "AnswersUntold": (HELD_ANSWERS, "answers do not tell that they saw tokens in few bits"),
    "RowsMixed": (ROWS, "together .* are written, the likeliest are"),
    "SeedIgnored": (ROWS, "the same seed draws other tokens"),
    "RequestsCut": (REQUESTS, "requests get .*, alone they get"),
    "BatchesAreFree": (BATCH_BYTES, "more texts and longer ones take"),
    "RunsEncodedAsDense": (WRITES, "encoded, .* are written"),
}
SOUND = ("WalksOnly", "BranchesEvenly", "KeepsTextsShort")
SLOW = ("decodes_every_method", LAYERS)  # seconds, and the same for all that have not got them wrong
BY_NAME = {
    check.__name__: check
    for checks in (engine_conformance.FIRST, engine_conformance.FOR_ALL, *engine_conformance.OF_ABILITIES.values())
    for check in checks
}


def test_every_fault_has_its_check_and_every_check_a_fault():
    own = [each for each in vars(bad_engines).values() if inspect.isclass(each) and each.__module__ == "bad_engines"]
    faults = {each.__name__ for each in own if "Walk" not in each.__bases__[0].__name__}
    assert faults == {*REFUSED, *SOUND}
    assert {check for check, _ in REFUSED.values()} == set(BY_NAME)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_for_its_own_reason(name):
    check, reason = REFUSED[name]
    with small_models() as models:
        found = engine_conformance.made(BY_NAME[check], getattr(bad_engines, name)(activations="float32"), models)
    assert found.problem is not None
    assert re.search(reason, found.problem), found.problem


@pytest.fixture
def quick(monkeypatch):
    """Without the checks that take seconds."""
    kept = tuple(check for check in engine_conformance.FOR_ALL if check.__name__ not in SLOW)
    monkeypatch.setattr(engine_conformance, "FOR_ALL", kept)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_not_refused(name, quick):
    found = list(engine_conformance.findings(getattr(bad_engines, name)(activations="float32")))
    assert [each for each in found if each.problem] == []
    left_out = {each.name for each in found if each.lacks}
    held = {HELD, HELD_BRANCHES, HELD_TRACKS, HELD_ANSWERS, REACHED}
    others = held | {SHOWN, WRITES, STOPS, TIMES, ROWS, REQUESTS, BATCH_BYTES}
    assert left_out == (others if name == "WalksOnly" else set())


def test_an_engine_in_numpy_passes_every_check(quick):
    assert [each for each in engine_conformance.findings(NumpyEngine()) if each.problem or each.lacks] == []


def test_ours_passes_the_checks_that_are_quick(quick):
    pytest.importorskip("torch")
    assert [each for each in engine_conformance.findings(engines.get("torch")) if each.problem or each.lacks] == []


def test_walks_in_bfloat16_have_limits_of_their_own(monkeypatch, capsys):
    """By which PyTorch's pass, and an engine that computes something else does not."""
    pytest.importorskip("torch")
    monkeypatch.setattr(engine_conformance, "FOR_ALL", ())
    few = {"walk": (BY_NAME[FORWARD], BY_NAME[LOGITS], BY_NAME[ROUNDED]), "calibrate": (BY_NAME[SHOWN],)}
    monkeypatch.setattr(engine_conformance, "OF_ABILITIES", few)
    assert main(["conform-engine", "torch:cpu", "--activations", "bfloat16"]) == 0, capsys.readouterr().out
    wrong = bad_engines.SeesTheNext()
    wrong.activations = "bfloat16"
    with small_models() as models:
        assert re.search(OFF, engine_conformance.made(BY_NAME[FORWARD], wrong, models).problem or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_ours_pass_every_check(name):
    pytest.importorskip("torch" if name == "torch" else "mlx.core")
    assert [each for each in engine_conformance.findings(engines.get(name)) if each.problem or each.lacks] == []


def test_every_check_is_a_line_and_the_exit_code_says_so(capsys, quick):
    assert main(["conform-engine", "bad_engines:WindowIgnored"]) == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line for line in lines if line.startswith("FAILED")] == [next(x for x in lines if WINDOW in x)]
    assert "1 checks failed for bad_engines:WindowIgnored" in printed.err
    assert main(["conform-engine", "bad_engines:WalksOnly"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"left out shows_the_inputs: `observe` shows every matrix's inputs", printed)
    assert "12 checks were left out: bad_engines:WalksOnly says that it can walk." in printed


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("nothing", "Unknown engine 'nothing'. Choose from: .*mlx"),
        ("math:pi", "it is a float, not a class"),
        ("bad_engines:Nameless", "is no engine: it lacks name, can"),
        ("nosuch:Name", "cannot be imported: No module named 'nosuch'"),
    ],
)
def test_what_is_no_engine_is_told_in_a_sentence(named, told, capsys):
    assert main(["conform-engine", named]) == 2
    said = capsys.readouterr().err
    assert re.search(told, said), said
    with pytest.raises(QuantbenchError):
        engines.get(named)
