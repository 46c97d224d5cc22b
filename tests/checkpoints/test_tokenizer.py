"""What a tokenizer puts around texts, and that every part of the measuring begins and ends its texts alike."""

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
import small_tokenizers as small
from builders import capacity, engine, measured_answers, measured_losses, open_model
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from pytest_quantbench import engines
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.tokenizer import Frame, end_tokens, frame_of, load_tokenizer
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.errors import CorpusError, ModelError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures import throughput_runs, throughput_session
from pytest_quantbench.measures.accuracy.lm_eval_tasks import EMBEDDED
from pytest_quantbench.measures.accuracy.multiple_choice import _Encoder
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens

TINY = load_tokenizer(TINY_DIRECTORY)
TEXT = Text(name="held out", content=(TINY_DIRECTORY / "heldout.txt").read_text())
LIMITS = {"vocab_size": 2050, "max_position_embeddings": 64}
NEW = ("[CLS]", "[SEP]")  # tokens 2048 and 2049
FRAMES = [  # a template, what BOS and EOS are called, and what has to be found
    (("<s>", "$A"), "<s>", "</s>", (0,), ()),
    (("<s>", "$A", "</s>"), "<s>", "</s>", (0,), (1,)),
    (("$A", "</s>"), "<s>", "</s>", (), (1,)),
    (("$A",), "<s>", "</s>", (), ()),
    (("$A",), None, None, (), ()),
    (("[CLS]", "$A", "[SEP]"), None, None, (2048,), (2049,)),
    (("[CLS]", "<s>", "$A"), "<s>", "</s>", (2048, 0), ()),
    (("[CLS]", "[SEP]", "<s>", "$A", "</s>", "[SEP]"), "<s>", "</s>", (2048, 2049, 0), (1, 2049)),
]


@pytest.fixture(params=FRAMES, ids=lambda each: " ".join(each[0]) + ("" if each[1] else ", no BOS"))
def framed(request, tmp_path):
    """A tokenizer, and what has to be found of it."""
    template, bos, eos, prefix, suffix = request.param
    folder = small.around(tmp_path / "framed", *template, bos=bos, eos=eos, new=NEW)
    return load_tokenizer(folder), Frame(prefix=prefix, suffix=suffix)


def test_what_stands_around_a_text_is_observed(framed):
    tokenizer, expected = framed
    assert frame_of(tokenizer) == expected


def test_every_part_begins_with_the_prefix_and_ends_without_the_suffix(framed, tmp_path):
    """T2's windows, calibration, prompts of T1 and of written answers, contexts and choices of T3."""
    tokenizer, frame = framed
    front, bare = list(frame.prefix), {text: TINY.encode(text, add_special_tokens=False) for text in (*PROMPTS, "Who?")}
    tokens = Tokens(TEXT, tokenizer, capacity(LIMITS))
    script = Script(tokens, Reading(tokens=200, context=40, sampling="head"))
    starts = [batch.tolist()[0] for batch in script.batches()]
    assert starts == [front + tokens.ids[window.begin : window.end - 1] for window in script.whole]
    windows = CalibrationSet(text=TEXT, sequences=5).batches(tokenizer, capacity(LIMITS), seed=0)
    assert all(row[: len(front)] == front and len(row) == 64 for batch in windows for row in batch.tolist())
    for prompt in PROMPTS:
        assert frame.opened(tokenizer, prompt) == front + bare[prompt]
    (request,) = _Encoder(tokenizer).encoded([Instance("loglikelihood", {}, ("Who?", " pipe"), 0)])
    assert (request.context, request.continuation) == ((*front, *bare["Who?"]), (1020,))
    assert frame.named(tokenizer)["prefix"] == tuple(tokenizer.convert_ids_to_tokens(front))


def test_windows_leave_room_for_a_prefix_of_several_tokens(framed):
    """The last token of a window is no input: BOS takes its place, and every further token one of the window's own."""
    tokenizer, frame = framed
    script = Script(Tokens(TEXT, tokenizer, capacity(LIMITS)), Reading(tokens=200, context=2048, sampling="head"))
    assert script.context == 64 - max(0, len(frame.prefix) - 1)
    assert max(batch.shape[1] for batch in script.batches()) == (64 if frame.prefix else 63)
    assert script.scores_first is bool(frame.prefix)


@pytest.mark.parametrize("template", [("[CLS]", "<s>", "$A", "</s>"), ("$A", "</s>")])
def test_losses_behind_a_prefix_are_those_of_a_plain_forward(small_model, tmp_path, template):
    directory = small.around(small_model(vocab_size=2050), *template, new=NEW)
    artifact = compress(open_model(directory), recipe("bf16"), 0, tmp_path / "cache")
    tokens = Tokens(TEXT, load_tokenizer(directory), capacity(artifact.config))
    samples = measured_losses(engine(host=True), artifact, tokens, Reading(tokens=50, context=20, sampling="head"))
    model = resident.load(artifact, host=True).model
    front, expected = list(tokens.frame.prefix), []
    for begin in range(0, 50, 20):
        window = front + tokens.ids[begin : min(begin + 20, 50)]
        logits = np.array(model(mx.array([window]))[0].astype(mx.float32), np.float64)
        losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(window)), [*window[1:], 0]]
        expected += losses[max(0, len(front) - 1) : -1].tolist()
    np.testing.assert_allclose(samples.nll_nats, expected, atol=1e-4)
    named = "every window starts with [CLS] <s>" if front else "no BOS, what has nothing before it is not scored"
    assert f"{named}, </s> behind the text left out" in samples.protocol


def test_a_prefix_that_the_model_does_not_know_is_refused_everywhere(small_model, tmp_path):
    """Its embedding would be read from behind the table."""
    directory = small.around(small_model(), "[CLS]", "$A", new=NEW)
    artifact, tokenizer = compress(open_model(directory), recipe("bf16"), 0, tmp_path), load_tokenizer(directory)
    told = "gives token 2048, and the model knows 2048: they do not belong together"
    with pytest.raises(ModelError, match=told):
        Tokens(TEXT, tokenizer, capacity(artifact.config))
    with pytest.raises(ModelError, match=told):
        CalibrationSet(text=TEXT, sequences=2).batches(tokenizer, capacity(artifact.config), 0)
    with pytest.raises(ModelError, match=told):
        TaskSet(tokenizer, capacity(artifact.config), ["tiny_facts"], {}, 5, 0, offline=True)
    with pytest.raises(ModelError, match=told):
        throughput_session.Session(
            engine=engines.get(), artifact=artifact, tokenizer_directory=directory, runs=1, new_tokens=2
        ).start()


def test_without_a_context_there_is_the_prefix_or_bos_or_eos_or_an_error(framed):
    tokenizer, frame = framed
    asked = [Instance("loglikelihood", {}, (context, " pipe"), 0) for context in ("", " \n", "Who?")]
    if not frame.prefix and tokenizer.bos_token_id is None:
        with pytest.raises(CorpusError, match="the tokenizer lacks what could stand there: it has no BOS, no EOS"):
            _Encoder(tokenizer).encoded(asked)
        return
    empty, blank, _ = _Encoder(tokenizer).encoded(asked)
    start = frame.prefix or (tokenizer.bos_token_id,)
    assert (empty.context, empty.continuation) == (start, (1020,))
    assert (blank.context, blank.continuation) == (start, tuple(TINY.encode(" \n pipe", add_special_tokens=False)))


def test_eos_stands_in_where_there_is_no_bos(tmp_path):
    tokenizer = load_tokenizer(small.around(tmp_path, "$A", bos=None))
    (request,) = _Encoder(tokenizer).encoded([Instance("loglikelihood", {}, ("", "</s> pipe"), 0)])
    assert (request.context, request.continuation) == ((1,), (1020,))  # lm-eval's rule: not twice


@pytest.mark.parametrize("context", ["Who?", "<s>Who?", "", "Who? ", "What ends here</s>"])
@pytest.mark.parametrize("template", [("<s>", "$A"), ("$A",)])
def test_where_nothing_stands_behind_texts_contexts_are_lm_evals(context, template, tmp_path):
    """Its own backend's rule, on its own code: BOS as the tokenizer has it, and not twice."""
    pytest.importorskip("torch")
    from lm_eval.models.huggingface import HFLM

    tokenizer = load_tokenizer(small.around(tmp_path, *template))
    theirs = HFLM.__new__(HFLM)
    theirs.tokenizer, theirs.add_bos_token, theirs.custom_prefix_token_id, theirs.backend = (
        tokenizer,
        None,
        None,
        "causal",
    )
    noted = []
    theirs._loglikelihood_tokens = lambda requests, **_: noted.extend(requests) or [(0.0, False)] * len(requests)
    asked = [Instance("loglikelihood", {}, (context, choice), 0) for choice in (" pipe", " a harp")]
    TemplateLM.loglikelihood(theirs, asked, disable_tqdm=True)
    ours = _Encoder(tokenizer).encoded(asked)
    assert [(list(each.context), list(each.continuation)) for each in ours] == [each[1:] for each in noted]


def test_a_tokenizer_whose_special_tokens_change_the_first_piece_is_seen_through():
    class Changing:
        """Puts a blank in front of a text without special tokens, and 0 and 9 around one with them."""

        def __init__(self):
            self.added_tokens_decoder = {0: "<s>", 9: "</s>"}

        def encode(self, text, add_special_tokens=True):
            ids = [100 + ord(letter) for letter in text]
            return [0, *ids, 9] if add_special_tokens else [100 + ord(" "), *ids]

    assert frame_of(Changing()) == Frame(prefix=(0,), suffix=(9,))


def test_special_tokens_that_a_text_writes_out_are_named(caplog):
    for content, told in ((TEXT.content, False), ("An <s>old</s> price. " * 200, True)):
        tokens = Tokens(Text(name="prices.txt", content=content), TINY, capacity(LIMITS))
        protocol = Script(tokens, Reading(tokens=100, sampling="head")).protocol
        assert ("prices.txt contains <s>, </s>: read as special tokens" in caplog.text) is told
        assert (", <s> </s> in the text read as special tokens" in protocol) is told


def test_a_tokenizer_that_ends_texts_changes_nothing(tmp_path):
    """Tiny answers as ever when its tokenizer puts EOS behind every text; the record says what is left out."""
    directory = tmp_path / "ending"
    shutil.copytree(TINY_DIRECTORY, directory)
    small.around(directory, "<s>", "$A", "</s>")
    artifact = compress(open_model(directory), recipe("bf16"), 0, tmp_path / "cache")
    files = {"tiny_facts": EMBEDDED["tiny_facts"]}
    found = [
        measured_answers(
            engine(host=True),
            artifact,
            TaskSet(each, capacity(artifact.config), ["tiny_facts"], files, 100, 0, offline=True),
        )
        for each in (TINY, load_tokenizer(directory))
    ]
    plain, ending = (samples.tasks["tiny_facts"] for samples in found)
    assert plain.loglikelihoods == ending.loglikelihoods
    assert ending.correct.mean() > 0.85
    model = resident.load(artifact)
    runs = [throughput_runs.generate(model, each, PROMPTS, 0, 3) for each in (TINY, load_tokenizer(directory))]
    assert runs[0].tokens == runs[1].tokens
    settings = Settings(cache=tmp_path / "cache", tokens=128, fixed=True, corpus="tiny-heldout")
    cell = Subject(user_model(str(directory)), settings).cell(recipe("bf16"))
    assert cell.record().tokenizer is None  # nothing was read
    cell.judge("perplexity")
    assert cell.record().tokenizer == {"prefix": ("<s>",), "suffix_left_out": ("</s>",)}


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (None, None, {1}),
        ({"eos_token_id": 5}, None, {1, 5}),
        ({"eos_token_id": 1}, {"eos_token_id": [7, 8]}, {1, 7, 8}),
        ({"eos_token_id": None}, {"temperature": 0.7}, {1}),
    ],
)
def test_what_ends_an_answer_is_in_the_models_files(config, generation, expected, tmp_path):
    for name, content in (("config", config), ("generation_config", generation)):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert end_tokens(tmp_path, load_tokenizer(TINY_DIRECTORY)) == expected


def test_a_tokenizer_without_an_end_has_none(tmp_path):
    tokenizer = load_tokenizer(TINY_DIRECTORY)
    tokenizer.eos_token = None
    assert end_tokens(tmp_path, tokenizer) == frozenset()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"tokenizer_class": 3}'),
        ("tokenizer_config.json", '{"bos_token": 3}'),
        ("config.json", "[]"),
        ("config.json", json.dumps(json.loads((TINY_DIRECTORY / "config.json").read_text()) | {"rms_norm_eps": "x"})),
    ],
)
def test_files_that_are_none_of_a_tokenizers_are_one_sentence(tmp_path, file, content):
    for each in TINY_DIRECTORY.glob("*.json"):
        shutil.copy(each, tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(ModelError, match=r"^The tokenizer in .* cannot be opened: .+\.$"):
        load_tokenizer(tmp_path)
