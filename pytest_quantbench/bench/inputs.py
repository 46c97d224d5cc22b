"""A model with all that measuring it needs: its weights, the text of T2, the questions of T3, the calibration text."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_quantbench import engines
from pytest_quantbench.catalog.corpora import HEAD_OF_TEXT
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.calibration_text import Writer, calibration_set
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import CorpusError, QuantbenchError
from pytest_quantbench.fetch.download import fetch
from pytest_quantbench.fetch.evicted import find
from pytest_quantbench.fetch.texts import Text, read_text
from pytest_quantbench.measures.perplexity.contamination import shared_run
from pytest_quantbench.measures.perplexity.reading import HEAD, Reading, Script, Tokens
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import ALPHA

if TYPE_CHECKING:
    from pytest_quantbench.bench.schedule import Walked
    from pytest_quantbench.measures.accuracy.task_set import Asked

OVERLAP_TOKENS = 50  # in a row: no two texts share so many by chance


class Source:
    """Everything is fetched or read when first asked for, and kept. Raises ModelError or OfflineError then."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        self.expected: dict[Walked, set[str]] = {}  # which samples of which cells this session will ask for
        self.reused: list[str] = []  # what earlier sessions have measured
        self.engine = engines.get()
        self._no_checkpoint: QuantbenchError | None = None
        self._asked: dict[tuple[tuple[str, ...], int, int], Asked] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The files of the original weights."""
        return self.opened.checkpoint

    @cached_property
    def capacity(self) -> Capacity:
        """Which tokens and how many the model takes."""
        return self.engine.capacity(self.opened.config)

    @cached_property
    def opened(self) -> Architecture:
        """The original weights, fetched, checked and opened; what keeps them from being had is found out once."""
        settings = self.settings
        if self._no_checkpoint is not None:
            raise self._no_checkpoint
        try:
            known = None if settings.fresh else find(settings.cache, self.model, settings.offline)
            return self.engine.open(known or Checkpoint(*fetch(self.model, settings.offline)))
        except QuantbenchError as error:
            self._no_checkpoint = error
            raise

    @property
    def tasks(self) -> tuple[str, ...]:
        """T3's tasks; the first one is judged."""
        return self.settings.tasks or self.model.tasks

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """The texts of T2; the first one is judged."""
        settings = self.settings
        chosen = (settings.corpus or self.model.corpus, *settings.other_corpora)
        return tuple(read_text(each, settings.offline) for each in chosen)

    @property
    def text(self) -> Text:
        """The text that T2 judges by."""
        return self.texts[0]

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own."""
        return load_tokenizer(self.checkpoint.directory)

    @cached_property
    def around_texts(self) -> dict[str, tuple[str, ...]]:
        """The tokens that every text begins with, and those that the tokenizer would put behind it, by name."""
        return frame_of(self.tokenizer).named(self.tokenizer)

    @cached_property
    def tokens(self) -> Tokens:
        """The text of T2 as the model sees it."""
        capacity = self.capacity  # first: without the model no text is worth fetching
        return Tokens(self.text, self.tokenizer, capacity)

    @cached_property
    def _other_tokens(self) -> tuple[Tokens, ...]:
        return tuple(Tokens(text, self.tokenizer, self.capacity) for text in self.texts[1:])

    def script(self) -> Script:
        """What T2 reads at first: `--tokens` tokens of every text, and beside them the head of the first."""
        reading = self._reading(self.settings.tokens)
        beside = {other.text.name: Script(other, reading) for other in self._other_tokens}
        own, head = Script(self.tokens, reading), Script(self.tokens, HEAD, there=0)
        if own.protocol != head.protocol or own.wanted < head.wanted:
            beside[HEAD_OF_TEXT] = head
        return Script(self.tokens, reading, beside=beside)

    def rest(self, tokens: int, there: int) -> Script:
        """What is left to read of so many tokens of the first text where `there` are scored."""
        return Script(self.tokens, self._reading(tokens), there)

    def _reading(self, tokens: int | None) -> Reading:
        settings = self.settings
        return Reading(
            tokens=tokens,
            context=settings.context,
            stride=settings.stride,
            sampling=settings.sampling,
            seed=settings.seed,
        )

    def questions(self, tasks: Sequence[str], limit: int, start: int = 0) -> "Asked":
        """What T3 asks of these tasks, made once for all recipes."""
        from pytest_quantbench.measures.accuracy.task_set import Asked  # lm-eval takes seconds to import

        key, settings = (tuple(tasks), limit, start), self.settings
        if key not in self._asked:
            self._asked[key] = Asked(
                self.tokenizer,
                self.capacity,
                tasks,
                settings.task_files,
                limit,
                settings.seed,
                offline=settings.offline,
                start=start,
                run_code=settings.run_code,
            )
        return self._asked[key]

    @cached_property
    def calibration(self) -> CalibrationSet:
        """The text that calibrated recipes of this model use."""
        settings, model = self.settings, self.model
        return calibration_set(
            settings.calibration,
            model.calibration,
            Writer(
                name=model.name,
                engine=self.engine,
                reference=lambda: reference(self.opened, REFERENCE, settings.cache),
                tokenizer=lambda: self.tokenizer,
                cache=settings.cache,
                seed=settings.seed,
            ),
            sequences=settings.calibration_sequences,
            usual=model.calibration_sequences,
            offline=settings.offline,
        )

    @cached_property
    def fitted_to_text(self) -> bool:
        """Whether calibration and evaluation share text: T2 would then be of text that was fitted to."""
        fitted = self.tokenizer.encode(self.calibration.text.content, add_special_tokens=False, verbose=False)
        return any(self._shared(fitted, read) for read in (self.tokens, *self._other_tokens))

    def _shared(self, fitted: Sequence[int], read: Tokens) -> bool:
        if self.calibration.text.sha256 == read.text.sha256:
            return True
        settings = self.settings
        reach = (settings.tokens, settings.most_tokens)  # None: to the end
        everywhere = settings.sampling == "windows" or None in reach
        judged = read.ids[: None if everywhere else max(each for each in reach if each is not None)]
        return shared_run(fitted, judged, min(OVERLAP_TOKENS, len(judged)))

    def refuse_unreadable_text(self, reference: PerplexitySamples) -> None:
        """Raise CorpusError for a text that the model itself cannot read: losses on it say nothing.

        A model that reads a text tells its tokens better than their frequencies do; that has to be clear of the same
        tokens, with the error that a verdict may have.
        """
        places = Script(self.tokens, self._reading(reference.text_tokens), there=0).places[: len(reference.nll_nats)]
        frequencies = self.tokens.unigram_nats[places]
        better = series.mean(reference.nll_nats - frequencies, reference.drawn)
        if better is None or better.p_below(0.0) < ALPHA:  # None: so few tokens that nothing is judged by them
            return
        shown, known = (series.perplexity(nats) for nats in (reference.nll_nats, frequencies))
        perplexity = "overflows" if shown is None else f"is {shown:,.0f}"
        raise CorpusError(
            f"{self.model.name} in BF16 cannot read the text {reference.corpus}: its perplexity {perplexity} on "
            f"{len(places):,} tokens, and {known:,.0f} comes of knowing no more than how frequent each token is. "
            f"Either weights and tokenizer do not belong together, or the text is of another kind than the model: give "
            f"another with --corpus FILE."
        )

    def readable(self, reference: PerplexitySamples) -> bool:
        """Whether the model can read the text: else no figure of it goes into a record."""
        try:
            self.refuse_unreadable_text(reference)
        except CorpusError:
            return False
        return True

    def refuse_fitted_text(self) -> None:
        """Raise CorpusError if calibration and evaluation share text."""
        if self.fitted_to_text:
            raise CorpusError(
                f"The calibration text {self.calibration.text.name} and the T2 text "
                f"{' or '.join(text.name for text in self.texts)} share "
                f"{OVERLAP_TOKENS} tokens in a row or all there are: the perplexity would be of text that was fitted "
                f"to. Give another text with --calibration FILE."
            )
