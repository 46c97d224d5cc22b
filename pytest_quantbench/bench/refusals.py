"""What keeps T2's losses of a cell from being judged: a text that the model cannot read, another cell's very losses."""

from pytest_quantbench.bench.calibration_check import warn_of_foreign_text
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import PLAIN, Target
from pytest_quantbench.judge import rules
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import head_bits


def refuse_text(target: Target, schedule: Schedule, of: str | None) -> None:
    """Raise CorpusError for a text that the model cannot read; one of another kind to calibrate on is warned of. `of`:
    the text, where it is not the first.
    """
    reference = schedule.samples.need(target.reference, PERPLEXITY)
    PERPLEXITY.refuse_reference(schedule.inputs, reference.part(of))
    warn_of_foreign_text(target, schedule)


def refuse_identical(target: Target, schedule: Schedule) -> None:
    """Raise ComparisonError if another width's T2 gave the very losses of this cell: weights or caches were mixed up. A
    candidate may have another's decoded weights.
    """
    found = schedule.samples.of(PERPLEXITY)
    for other, losses in found.items():
        widths = {_held_bits(each, found[target]) for each in (target, other)} - {None}
        if other.variant == PLAIN and (other.recipe.bits != target.recipe.bits or len(widths) > 1):
            candidate = target.recipe.candidate is not None or other.recipe.candidate is not None
            rules.refuse_identical(target.id, found[target], other.id, losses, may_share_weights=candidate)


def _held_bits(target: Target, samples: PerplexitySamples) -> float | None:
    """What a head's cache takes where so many tokens are held as these samples look back on: of two caches that take as
    many bits there, one may be what the other is. None: it is in 16 bits (see engagement), or nothing is known.
    """
    part, tokens = target.recipe.cache, int(samples.depths.max(initial=0))
    if part is None or not samples.cache_shapes or not tokens:
        return None
    method, (_, keys, values, *_) = kv.make(part), samples.cache_shapes[0]
    return head_bits(method.form(keys), "keys", tokens, keys) + head_bits(method.form(values), "values", tokens, values)
