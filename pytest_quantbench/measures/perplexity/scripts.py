"""What T2 reads of the model under test, made once for all recipes, and whether the model can read it."""

from collections.abc import Sequence
from dataclasses import replace

from pytest_quantbench.catalog.corpora import HEAD_OF_TEXT
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.reading import HEAD, Reading, Script, Tokens
from pytest_quantbench.measures.protocol import Inputs
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import ALPHA


def tokens_of(inputs: Inputs, text: Text) -> Tokens:
    """A text as the model sees it."""
    return inputs.once(("tokens", text.name, text.sha256), lambda: _tokens(inputs, text))


def _tokens(inputs: Inputs, text: Text) -> Tokens:
    return Tokens(text, inputs.tokenizer, inputs.capacity)


def judged_tokens(inputs: Inputs) -> Tokens:
    """The text that T2 judges by."""
    _ = inputs.capacity  # first: without the model no text is worth fetching
    return tokens_of(inputs, inputs.texts[0])


def other_tokens(inputs: Inputs) -> list[Tokens]:
    """The texts that are measured beside it."""
    return [tokens_of(inputs, text) for text in inputs.texts[1:]]


def first_script(inputs: Inputs) -> Script:
    """What T2 reads at first: `--tokens` tokens of every text, and beside them the head of the first."""
    settings = inputs.settings
    judged = judged_tokens(inputs)
    reading = replace(_reading(inputs, settings.tokens), fewest_windows=settings.fewest_windows)
    others = other_tokens(inputs)
    key = ("script", reading, *((tokens.text.name, tokens.text.sha256) for tokens in (judged, *others)))
    return inputs.once(key, lambda: _first_script(judged, others, reading))


def _first_script(judged: Tokens, others: Sequence[Tokens], reading: Reading) -> Script:
    beside = {other.text.name: Script(other, reading) for other in others}
    own, head = Script(judged, reading), Script(judged, HEAD, there=0)
    if own.protocol != head.protocol or own.wanted < head.wanted:
        beside[HEAD_OF_TEXT] = head
    return Script(judged, reading, beside=beside)


def rest(inputs: Inputs, tokens: int, there: int, of: str | None = None) -> Script:
    """What is left to read of so many tokens of a text where `there` are scored; None: of the first."""
    read, reading = judged_tokens(inputs) if of is None else _tokens_named(inputs, of), _reading(inputs, tokens)
    key = ("rest", reading, there, read.text.name, read.text.sha256)
    return inputs.once(key, lambda: Script(read, reading, there))


def _tokens_named(inputs: Inputs, name: str) -> Tokens:
    return next(tokens_of(inputs, text) for text in inputs.texts if text.name == name)


def _reading(inputs: Inputs, tokens: int | None) -> Reading:
    settings = inputs.settings
    return Reading(
        tokens=tokens,
        context=settings.context,
        stride=settings.stride,
        sampling=settings.sampling,
        seed=settings.seed,
    )


def refuse_unreadable(inputs: Inputs, reference: PerplexitySamples) -> None:
    """Raise CorpusError for the text of these samples if the model itself cannot read it: losses on it say nothing.

    A model that reads a text tells its tokens better than their frequencies do; that has to be clear of the same
    tokens, with the error that a verdict may have.
    """
    script = Script(_tokens_named(inputs, reference.corpus), _reading(inputs, reference.text_tokens), there=0)
    places = script.places[: len(reference.nll_nats)]
    frequencies = script.tokens.unigram_nats[places]
    better = series.mean(reference.nll_nats - frequencies, reference.drawn)
    if better is None or better.p_below(0.0) < ALPHA:  # None: so few tokens that nothing is judged by them
        return
    shown, known = (series.perplexity(nats) for nats in (reference.nll_nats, frequencies))
    perplexity = "overflows" if shown is None else f"is {shown:,.0f}"
    raise CorpusError(
        f"{inputs.model.name} in BF16 cannot read the text {reference.corpus}: its perplexity {perplexity} on "
        f"{len(places):,} tokens, and {known:,.0f} comes of knowing no more than how frequent each token is. "
        f"Either weights and tokenizer do not belong together, or the text is of another kind than the model: give "
        f"another with --corpus FILE."
    )
