"""Files on a made-up runtime: its losses are on T2's very tokens, whatever the windows and the text's beginning."""

import numpy as np
import pytest
from fake_runtime import FAKE, VOCABULARY, logits_after
from text_like_logits import compact

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.errors import RunnerError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens
from pytest_quantbench.measures.runtime.trial import Asked, run

TOKENIZER = load_tokenizer(TINY_DIRECTORY)
TEXT = Text(name="held out", content=(TINY_DIRECTORY / "heldout.txt").read_text())


def script_of(vocabulary=VOCABULARY, **reading):
    tokens = Tokens(TEXT, TOKENIZER, Capacity(vocabulary=vocabulary, positions=None))
    return Script(tokens, Reading(**{"tokens": 48, "context": 24, "stride": 16} | reading))


def seen_before(script):
    """What stands before every scored token in its window, and the token, slowly."""
    tokens = script.tokens
    for window in script.whole:
        for place in range(window.first, window.end):
            yield [*tokens.front, *tokens.ids[window.begin : place]], tokens.ids[place]


def asked(script, logits=None, **changes):
    rows = np.stack([logits_after(before) for before, _ in seen_before(script)]) if logits is None else logits
    fields = {
        "script": script,
        "kept": compact(rows),
        "tokenizer": TOKENIZER,
        "runs": 1,
        "prompts": PROMPTS,
        "new_tokens": 3,
        "loads": 3,
    }
    return Asked(**fields | changes)


@pytest.mark.parametrize("reading", [{}, {"sampling": "head", "stride": None}, {"sampling": "head", "stride": 8}])
def test_losses_are_of_the_tokens_that_t2_scores(tmp_path, reading):
    script = script_of(**reading)
    found = run(FAKE, [tmp_path], asked(script), what="")
    slow = []
    for before, token in seen_before(script):
        logits = logits_after(before).astype(np.float64)
        slow.append(np.log(np.exp(logits).sum()) - logits[token])
    np.testing.assert_allclose(found.nll_nats, slow, atol=1e-5)
    assert len(found.nll_nats) == sum(window.scored for window in script.whole) >= 46
    np.testing.assert_allclose(found.fidelity.kl_nats, 0, atol=1e-6)  # the reference has the same logits
    assert found.fidelity.same_top.all()
    assert found.window_tokens.tolist() == [w.end - w.begin - 1 + len(script.tokens.front) for w in script.whole]
    assert (found.window_seconds > 0).all()


def test_divergences_are_from_the_references_distributions(tmp_path):
    script = script_of()
    pairs = list(seen_before(script))
    other = np.stack([logits_after([*before, 1]) for before, _ in pairs])
    found = run(FAKE, [tmp_path], asked(script, other), what="").fidelity
    for place, (before, _) in enumerate(pairs):
        p, q = (np.exp(each.astype(np.float64)) for each in (other[place], logits_after(before)))
        p, q = p / p.sum(), q / q.sum()
        assert found.kl_nats[place] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4, abs=1e-6)
        assert found.same_top[place] == (p.argmax() == q.argmax())
        assert found.likeliest[place] == q.argmax()


def test_every_prompt_is_generated_from_behind_a_warm_up(tmp_path):
    found = run(FAKE, [tmp_path], asked(script_of(), runs=2), what="")
    assert [each.prompt for each in found.runs] == [*range(len(PROMPTS))] * 2
    assert found.warm_up.prompt == 0
    assert {each.new_tokens for each in found.runs} == {3}
    assert found.runs[0].tokens == found.runs[len(PROMPTS)].tokens == found.warm_up.tokens
    assert found.load_seconds.shape == (3,)
    assert (found.load_seconds > 0).all()
    assert found.peak_bytes >= found.before_bytes > 2**20
    assert (found.runtime, found.version) == ("fake", FAKE.version)
    assert "positions" in found.how


def test_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(RunnerError, match="fake gives 2,048 logits a position, and the reference has 2,050"):
        run(FAKE, [tmp_path], asked(script_of(vocabulary=2050)), what="")


def test_positions_hold_the_longest_window_and_the_longest_prompt():
    prompt = max(len(TOKENIZER.encode(each)) for each in PROMPTS)
    script = script_of()
    assert asked(script, new_tokens=1000).positions >= prompt + 1000
    assert asked(script_of(context=200), new_tokens=1).positions >= 200
