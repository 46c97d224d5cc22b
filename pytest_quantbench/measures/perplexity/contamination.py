"""Whether two texts share a passage: a model must not be judged on text that a method was fitted to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.perplexity.reading import Tokens
from pytest_quantbench.measures.perplexity.scripts import judged_tokens, other_tokens
from pytest_quantbench.measures.protocol import Inputs

OVERLAP_TOKENS = 50  # in a row: no two texts share so many by chance


def shared_run(first: Sequence[int], second: Sequence[int], length: int) -> bool:
    """Whether two token sequences have `length` tokens in a row in common. Compares 64-bit hashes of the runs."""
    keys = np.random.default_rng(0).integers(1, 2**64, length, dtype=np.uint64)
    return bool(np.isin(_run_hashes(first, keys), _run_hashes(second, keys)).any())


def _run_hashes(tokens: Sequence[int], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash for every run of len(keys) tokens: the sum of token × key, modulo 2^64."""
    ids = np.asarray(tokens, np.uint64) + np.uint64(1)
    count = max(0, len(ids) - len(keys) + 1)
    hashes = np.zeros(count, np.uint64)
    for place, key in enumerate(keys):
        hashes += ids[place : place + count] * key
    return hashes


def refuse_fitted(inputs: Inputs) -> None:
    """Raise CorpusError if calibration and evaluation share text."""
    if is_fitted_to(inputs):
        raise CorpusError(
            f"The calibration text {inputs.calibration_text.name} and the T2 text "
            f"{' or '.join(text.name for text in inputs.texts)} share "
            f"{OVERLAP_TOKENS} tokens in a row or all there are: the perplexity would be of text that was fitted "
            f"to. Give another text with --calibration FILE."
        )


def is_fitted_to(inputs: Inputs) -> bool:
    """Whether calibration and evaluation share text, as far as that is read."""
    settings, fitted = inputs.settings, inputs.calibration_text
    key = ("fitted", fitted.sha256, settings.tokens, settings.most_tokens, settings.sampling)
    return inputs.once(key, lambda: _is_fitted_to(inputs))


def _is_fitted_to(inputs: Inputs) -> bool:
    fitted = inputs.tokenizer.encode(inputs.calibration_text.content, add_special_tokens=False, verbose=False)
    return any(_shared(inputs, fitted, read) for read in (judged_tokens(inputs), *other_tokens(inputs)))


def _shared(inputs: Inputs, fitted: Sequence[int], read: Tokens) -> bool:
    if inputs.calibration_text.sha256 == read.text.sha256:
        return True
    settings = inputs.settings
    reach = (settings.tokens, settings.most_tokens)  # None: to the end
    everywhere = settings.sampling == "windows" or None in reach
    judged = read.ids[: None if everywhere else max(each for each in reach if each is not None)]
    return shared_run(fitted, judged, min(OVERLAP_TOKENS, len(judged)))
