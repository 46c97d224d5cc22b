"""Answers that are written with a cache held in few bits: those of walking the whole text anew for every token."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.torch.test_held_walk import ALL, FORMS, LOOKS, SHARED, Method, Weights, walked
from torch_models import filled, opened
from transformers_models import save

from pytest_quantbench.catalog.recipes import CACHES
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.torch import resident, static_cache
from pytest_quantbench.engines.torch.generate import Sequences
from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.quantizers import kv

pytestmark = pytest.mark.model
SLOWER = ("gemma2", "mistral-window", "gemma3n")
ARCHITECTURES = ["llama-llama3", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOWER)]
PROMPTS = [[7, 91, 4, 55, 31, 6, 12, 240, 8, 19, 77], [5, 9, 3], [44]]


def written(directory, method, new_tokens, prompts):
    """Tokens and probabilities after each prompt, all in one batch: the longer ones end first."""
    model = filled(directory)
    static_cache.use(model)
    told = []

    def note(log_probabilities):
        told.append(log_probabilities)
        return log_probabilities.argmax(-1)

    held = HeldCache(method)
    batch = Sequences(model, 3, note, held=held)
    numbers = [batch.insert(prompt, new_tokens + place) for place, prompt in enumerate(prompts)]
    found = {number: [] for number in numbers}
    with torch.no_grad():
        for step in range(new_tokens + len(prompts) - 1):
            told.clear()
            for row, said in enumerate(batch.next()):
                found[said.sequence].append((said.token, told[0][row] if len(told) == 1 else None))
            batch.remove([number for place, number in enumerate(numbers) if step + 1 == new_tokens + place])
    assert held.engaged
    return [found[number] for number in numbers]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "form", ["by age", "looks", *(pytest.param(n, marks=pytest.mark.slow) for n in FORMS if n != "by age")]
)
def test_answers_are_those_of_walking_the_whole_text_again(form, architecture, tmp_path):
    save(tmp_path, (ALL | {"gemma3n": SHARED})[architecture], [[1]])
    method = Method(FORMS[form]) if form in FORMS else LOOKS
    answers = written(tmp_path, method, 16, PROMPTS)
    assert [len(answer) for answer in answers] == [16, 17, 18]
    texts = [[*prompt, *(token for token, _ in answer)] for prompt, answer in zip(PROMPTS, answers, strict=True)]
    walk = walked(tmp_path, method, [np.array([text]) for text in texts])
    for number, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
        logits = torch.as_tensor(walk.head(number, slice(len(prompt) - 1, -1))[0])
        for place, (token, told) in enumerate(answer):
            assert token == int(logits[place].argmax())
            if told is not None:
                assert (told - logits[place].log_softmax(-1)).abs().max() < 1e-4


def test_a_prompt_read_in_pieces_is_rounded_as_in_one(tmp_path, monkeypatch):
    from pytest_quantbench.engines import answers

    save(tmp_path, ALL["llama-llama3"], [[1]])
    whole = written(tmp_path, Method(FORMS["by chunk"]), 4, PROMPTS)
    monkeypatch.setattr(answers, "PREFILL_TOKENS", 5)
    monkeypatch.setattr(answers, "PREFILL_ROWS", 2)
    pieces = written(tmp_path, Method(FORMS["by chunk"]), 4, PROMPTS)
    assert [[token for token, _ in each] for each in pieces] == [[token for token, _ in each] for each in whole]


def test_later_sequences_take_the_rows_of_those_that_have_ended(tmp_path):
    """And make the cache larger: what is held moves with its row."""
    save(tmp_path, ALL["llama-llama3"], [[1]])
    model = filled(tmp_path)
    static_cache.use(model)
    batch = Sequences(model, 3, None, held=HeldCache(LOOKS))
    first, second = batch.insert(PROMPTS[0], 9), batch.insert(PROMPTS[1], 20)
    found = {first: [], second: []}
    with torch.no_grad():
        for step in range(20):
            for said in batch.next():
                found.setdefault(said.sequence, []).append(said.token)
            if step == 8:
                batch.remove([first])
                third = batch.insert(PROMPTS[2], 30)
    alone = written(tmp_path, LOOKS, 20, [PROMPTS[1]])[0]
    assert found[second] == [token for token, _ in alone]
    assert found[third] == [token for token, _ in written(tmp_path, LOOKS, 11, [PROMPTS[2]])[0]]


def test_a_loaded_model_holds_its_cache_so_and_is_not_timed(tmp_path):
    save(tmp_path, ALL["llama-llama3"], [[1]])
    weights, method = Weights(opened(tmp_path)), kv.make(CACHES["kv2"])
    weights.encoding = lambda name: None
    how = {"device": torch.device("cpu"), "activations": "float32"}
    asked = {"stops": [()] * 3, "new_tokens": 12, "what": "", "end_tokens": ()}

    class Plain:
        eos_token_id, added_tokens_decoder = None, {}

        def decode(self, tokens, skip_special_tokens):
            return " ".join(map(str, tokens))

    plain, held = (resident.load(weights, "answers", **how, cache=each) for each in (None, method))
    texts = [[answer.tokens for answer in each.generate(Plain(), PROMPTS, **asked)] for each in (plain, held)]
    assert texts[0] != texts[1]
    with pytest.raises(QuantbenchError, match="method affine cannot be timed"):
        resident.load(weights, "timed", **how, cache=method)


def test_a_model_that_attends_by_itself_is_refused_where_a_prompt_is_read(tmp_path):
    save(tmp_path, ("bloom", {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 320}), [[1]])
    with pytest.raises(ModelError, match="BloomForCausalLM attends by code of its own"):
        written(tmp_path, Method(FORMS["by age"]), 3, PROMPTS[:1])
