"""The samples of one cell: measured when first asked for, kept, and added to when a verdict needs more."""

from functools import cached_property

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.catalog import NEW_TOKENS, PROMPTS
from pytest_quantbench.compress import compress
from pytest_quantbench.machine import backend, memory_bytes
from pytest_quantbench.measures import perplexity, throughput, weights
from pytest_quantbench.recipes import Recipe
from pytest_quantbench.samples import AccuracySamples, PerplexitySamples, SizeSamples, ThroughputSamples, WeightSamples
from pytest_quantbench.source import Source

MEMORY_SHARE = 0.7  # of physical memory that two resident models may take together


class Measured:
    """One model × one recipe, compressed when first measured. `rounding` rounds activations to bfloat16 (see Walk)."""

    def __init__(
        self, source: Source, recipe: Recipe, *, paired: "Measured | None" = None, rounding: bool = False
    ) -> None:
        self.source = source
        self.recipe = recipe
        self._paired = paired
        self._rounding = rounding
        self._host = backend() == "cpu"

    @cached_property
    def artifact(self) -> Artifact:
        """The compressed model, found in the cache or made."""
        settings = self.source.settings
        calibration = None if settings.calibration == "none" else lambda: self.source.calibration
        return compress(self.source.checkpoint, self.recipe, settings.seed, settings.cache, calibration)

    @cached_property
    def perplexity_samples(self) -> PerplexitySamples:
        """T2's samples: of `--tokens` tokens, or of more after `grow_tokens`."""
        if self.artifact.manifest.calibration:
            self.source.refuse_fitted_text()
        return self._scored(self.source.settings.tokens, None)

    def grow_tokens(self, tokens: int) -> int:
        """See to it that so many tokens are scored, as far as the corpus has them; returns how many are."""
        known = self.perplexity_samples
        if known.text_tokens < tokens:
            self.perplexity_samples = self._scored(tokens, known)
        return self.perplexity_samples.text_tokens

    def _scored(self, tokens: int | None, before: PerplexitySamples | None) -> PerplexitySamples:
        source = self.source
        directory = source.checkpoint.directory
        return perplexity.measure(
            self.artifact,
            directory,
            source.text,
            perplexity.Reading(tokens=tokens, context=source.settings.context, stride=source.settings.stride),
            host=self._host,
            before=before,
            reference=None if self.paired is None else self.paired.perplexity_samples,
            rounding=self._rounding,
        )

    @cached_property
    def accuracy_samples(self) -> AccuracySamples:
        """T3's samples: of `--limit` questions of every task, or of more of the first after `grow_questions`."""
        return self._answered(self.source.tasks, 0, self.source.settings.limit)

    def grow_questions(self, questions: int) -> int:
        """See to it that so many questions of the first task are answered, as far as it has them; returns how many."""
        known = self.accuracy_samples
        name = next(iter(known.tasks))
        start = len(known.tasks[name].ids)
        if start < min(questions, known.available[name]):
            more = self._answered((self._given(name),), start, questions)
            self.accuracy_samples = known.joined(name, more)
        return len(self.accuracy_samples.tasks[name].ids)

    def _given(self, name: str) -> str:
        """How the user named a task: by its name, or by its YAML file."""
        from pytest_quantbench.measures.accuracy import task_name

        return next(task for task in self.source.tasks if task_name(task) == name)

    def _answered(self, tasks: tuple[str, ...], start: int, limit: int) -> AccuracySamples:
        from pytest_quantbench.measures import accuracy  # lm-eval takes seconds to import

        settings = self.source.settings
        return accuracy.measure(
            self.artifact,
            self.source.checkpoint.directory,
            tasks,
            settings.task_files,
            limit,
            settings.seed,
            start=start,
            offline=settings.offline,
            host=self._host,
            rounding=self._rounding,
        )

    @property
    def size_samples(self) -> SizeSamples:
        """Bytes as stored."""
        return weights.size(self.artifact)

    def weight_samples_against(self, reference: "Measured") -> WeightSamples:
        """Every encoded matrix against the original."""
        return weights.measure(self.artifact, reference.artifact)

    @property
    def paired(self) -> "Measured | None":
        """What T1 is interleaved with and T2's distributions are compared with, if anything: the reference."""
        return self._paired

    @cached_property
    def throughput_session(self) -> throughput.Session:
        """T1, started and warmed up; interleaved where T1 is judged and both models fit in memory."""
        settings, paired, interleave = self.source.settings, self.paired, False
        if paired is not None and backend() != "cpu":
            together = self.artifact.manifest.stored_bytes + paired.artifact.manifest.stored_bytes
            interleave = together < MEMORY_SHARE * memory_bytes()
        session = throughput.Session(
            artifact=self.artifact,
            tokenizer_directory=self.source.checkpoint.directory,
            runs=settings.runs,
            new_tokens=NEW_TOKENS,
            reference=paired.artifact if paired is not None and interleave else None,
        )
        session.start()
        return session

    @cached_property
    def throughput_samples(self) -> ThroughputSamples:
        """T1's samples: whatever runs the session has left are done now."""
        return self.throughput_session.finish()

    def grow_runs(self, runs: int) -> int:
        """See to it that there are so many runs over all prompts; returns how many there are."""
        if len(self.throughput_samples.runs) < runs:
            self.throughput_session.runs = -(-runs // len(PROMPTS))
            self.throughput_samples = self.throughput_session.finish()
        return len(self.throughput_samples.runs)
