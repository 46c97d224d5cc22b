"""What each field of a record is called on a cell's page, and the unit that it is in.

A field that stands nowhere here is shown by its own name, so that nothing of a record can be missing from its page.
"""

import msgspec

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.report.html.names import NAMES

CURRENCY = "currency"  # stands for the record's own
# By the end of a field's name: the units that names have by this house's rule.
UNITS = {
    "_gb": "GB",
    "_sec": "s",
    "_secs": "s",
    "_tps": "tokens/s",
    "_nats": "nats per token",
    "_points": "points",
    "_db": "dB",
    "_mhz": "MHz",
    "_per_weight": "bits",
    "ppl": "",
}
# By the whole place, where the name does not tell.
UNITS_OF = {
    "throughput.ratio": "× BF16",
    "throughput.first_token": "s",
    "throughput.gap_sec": "ms",
    "throughput.gap.mean": "ms",
    "throughput.gap.deviation": "ms",
    "throughput.gap.least": "ms",
    "throughput.gap.most": "ms",
    "throughput.gap_ratio": "× BF16",
    "throughput.joules_per_token": "J",
    "throughput.reference_joules_per_token": "J",
    "cost.price_per_hour": CURRENCY,
    "cost.per_million_tokens": CURRENCY,
    "cost.compression": CURRENCY,
    "cost.amortised_per_million_tokens": CURRENCY,
    "perplexity.delta": "points",
    "perplexity.delta_interval": "points",
    "perplexity.head.delta": "points",
    "perplexity.bits_per_byte": "bits",
    "perplexity.divergence.kl_interval": "nats per token",
    "perplexity.by_depth.delta": "points",
    "perplexity.by_depth.delta_interval": "points",
    "cache.size.stored_bytes": "bytes",
    "cache.size.bf16_bytes": "bytes",
    "cache.size.bits_per_token": "bits",
    "cache.size.bits_per_value": "bits",
    "cache.size.reduction_percent": "%",
    "perplexity.divergence.kl_percentiles": "nats per token",
    "compression.ratio": "of the original",
    "throughput.read_gb_per_sec": "GB/s",
    "compression.times_smaller": "×",
    "load.warm.gb_per_sec": "GB/s",
    "load.cold.gb_per_sec": "GB/s",
    "load.warm.ratio": "× BF16",
    "load.cold.ratio": "× BF16",
}
# Fields whose own names are data: tasks, texts, libraries.
MAPPINGS = (
    "accuracy.tasks",
    "perplexities",
    "machine.versions",
    "throughput.kernels",
    "recipe_parameters",
    "cache.parameters",
    "candidate.files",
    "compression.calibration",
    "load.warm.stage_sec",
    "load.cold.stage_sec",
    "load.lacks",
)
# Fractions that are shown as percent.
SHARES = (
    "compression.quantized_fraction",
    "throughput.probe_drift",
    "throughput.reference_probe_drift",
    "throughput.probe_change",
    "throughput.bound_share",
    "throughput.reference_bound_share",
    "perplexity.divergence.same_top",
    "perplexity.divergence.probability_change",
    "perplexity.divergence.probability_change_rms",
    "accuracy.arc_easy",
    "accuracy.hellaswag",
    "accuracy.combined",
    "accuracy.bf16_combined",
    "accuracy.delta",
    "accuracy.tasks.*.accuracy",
    "accuracy.tasks.*.accuracy_raw",
    "accuracy.tasks.*.accuracy_interval",
    "accuracy.tasks.*.bf16_accuracy",
    "accuracy.tasks.*.chance",
    "runtime.engine_error.same_top",
    "load.warm.resident_share",
    "load.cold.resident_share",
    "coherence.first_token_agreement",
)
# Times that are shown in milliseconds, as the charts have them.
MILLISECONDS = (
    "throughput.gap_sec",
    "throughput.gap.mean",
    "throughput.gap.deviation",
    "throughput.gap.least",
    "throughput.gap.most",
)
# Of how many items a part's figures are: the field that says so, and what they are.
COUNTS = {
    "throughput": ("total_runs", "runs"),
    "perplexity": ("tokens", "tokens"),
    "perplexity.head": ("tokens", "tokens"),
    "accuracy.tasks.*": ("questions", "questions"),
    "weights": ("matrices", "matrices"),
    "runtime": ("tokens", "tokens"),
    "runtime.speed": ("runs", "runs"),
    "coherence": ("prompts", "prompts"),
}
PARTS = {
    "compression": "Size and coverage",
    "throughput": "T1: speed and memory",
    "perplexity": "T2: perplexity",
    "perplexities": "Other texts, not judged",
    "accuracy": "T3: accuracy",
    "weights": "Weights against the originals",
    "runtime": "By the files' own runtime, not judged",
    "load": "Loading in fresh processes, not judged",
    "coherence": "Does it still make sense?",
    "noise_floor": "Noise floor: the reference against itself, between float32 and bfloat16 activations",
    "cache": "Key-value cache",
    "retrieval": "Retrieval: what is found in a long text",
    "sweep": "T1 in full",
    "cost": "Cost",
    "candidate": "The candidate's file",
    "facts": "The model",
    "recipe_parameters": "The recipe's parameters",
    "accelerator": "Accelerator",
    "machine": "Machine and versions",
    "tokenizer": "What the tokenizer puts around texts",
    "": "The cell",
}
# What a part is called where it is not in a record, if not by its title.
ABSENT = {
    "cache": "a quantized cache",
    "coherence": "whether it still makes sense",
    "runtime": "its files' own runtime",
    "load": "loading",
    "noise_floor": "noise floor",
    "candidate": "a candidate's file",
    "perplexities": "other texts",
}


def table() -> dict[str, object]:
    """All of it, as the page's script reads it."""
    metrics = {name: msgspec.to_builtins(metric) for name, metric in METRICS.items()}
    return {
        "names": NAMES,
        "units": UNITS,
        "units_of": UNITS_OF,
        "mappings": MAPPINGS,
        "shares": SHARES,
        "milliseconds": MILLISECONDS,
        "counts": COUNTS,
        "parts": PARTS,
        "absent": ABSENT,
        "metrics": metrics,
    }
