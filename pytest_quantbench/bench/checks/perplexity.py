"""T2 as a verdict sees it: tokens of a text, in windows that are drawn or from its first token on."""

from dataclasses import replace

from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.judge import depth, rules
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.stats import series


class PerplexityCheck(Check[PerplexitySamples]):
    """T2: items are tokens of a corpus; of windows that are drawn, as many as whole windows score."""

    def part(self, samples: PerplexitySamples, of: str | None) -> PerplexitySamples:
        """One text's."""
        return samples.part(of)

    def extent(self, samples: PerplexitySamples, settings: Settings) -> tuple[int, int]:
        """From `--tokens` to `--max-tokens`, or to the end of the corpus; of windows at least as many as there are to
        be.
        """
        available, window = samples.available_tokens, 1 if samples.drawn is None else samples.drawn.tokens
        bounds = (settings.tokens, settings.fewest_windows), (settings.most_tokens, settings.growing_windows)
        first, most = (max(-(-(tokens or available) // window), fewest) * window for tokens, fewest in bounds)
        return min(first, available), min(most, available)

    def whole(self, samples: PerplexitySamples) -> int | None:
        """The corpus, where windows are drawn from it."""
        return None if samples.drawn is None else samples.available_tokens

    def count(self, samples: PerplexitySamples) -> int:
        """Tokens that were read."""
        return samples.text_tokens

    def first(self, samples: PerplexitySamples, items: int) -> PerplexitySamples:
        """What reading so many tokens gave."""
        return samples.as_of(items)

    def look(
        self,
        samples: PerplexitySamples,
        reference: PerplexitySamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """With both perplexities of the text."""
        verdict = rules.judge_perplexity(samples, reference, limit, alpha, floor)
        ppl, before = series.perplexity(samples.nll_nats), series.perplexity(reference.nll_nats)
        return replace(verdict, of=samples.corpus, value=ppl, reference_value=before)


class DepthCheck(PerplexityCheck):
    """The same samples, stratum by stratum of how many tokens the model looks back on."""

    def look(
        self,
        samples: PerplexitySamples,
        reference: PerplexitySamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """With both perplexities of the depth that decides."""
        return replace(depth.judge_depth(samples, reference, limit, alpha), of=samples.corpus)
