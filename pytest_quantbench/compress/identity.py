"""Is a candidate its reference, quantized? Found out before the walk; what may differ and does is listed.

The tokenizer first, then a few rows of the weights: what is cheap says no before what is not.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.checkpoints.formats.protocol import Claims, bits_per_weight
from pytest_quantbench.checkpoints.key_names import other_names
from pytest_quantbench.checkpoints.rope import ALL_LAYERS, TEXT_TABLES, Rope
from pytest_quantbench.compress import config_reading, differences, same_tokens, same_weights
from pytest_quantbench.compress.candidate_facts import CandidateFacts, Difference, Identity
from pytest_quantbench.compress.external import External
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError, first_line
from pytest_quantbench.quantizers import Array


def check(
    reference: Architecture,
    tokenizer: Any,
    claims: Claims,
    dense: Callable[[str], Array],
    directory: Path | None = None,
    embedded: int | None = None,
) -> Identity:
    """What ties a candidate to its opened reference, and what differs. `tokenizer` is the reference's; `dense`: the
    candidate's tensors by the engine's paths, decoded when asked for; `directory`: where its other files lie, of a
    candidate that is one; `embedded`: of how many tokens it has embeddings, where the reference has more. That it has
    the reference's tensors in its shapes was seen when it was opened.

    Raises ModelError, with the numbers, for another tokenizer, and for weights that are not the reference's.
    """
    own, found = _own_tokenizer(directory, tokenizer)
    tokens, renamed = same_tokens.compared(claims, own, tokenizer)
    found += renamed
    if embedded is not None:
        found += same_tokens.without_rows(embedded, tokenizer, reference.config)
    cosines = same_weights.cosines(reference, dense)
    beside = reference.checkpoint.directory
    return Identity(
        cosines=cosines,
        tokens=tokens,
        differences=(
            *differences.of_config(claims.config or {}, reference.config),
            *found,
            *differences.of_tokenizers(claims, own, tokenizer),
            *differences.of_generation(claims.generation, beside),
        ),
    )


def facts(made: External, candidate: Candidate, reference: Architecture, tokenizer: Any) -> CandidateFacts:
    """All that is known of a candidate that was opened beside its reference. Raises what `check` raises."""
    holding, claims = made.holding, made.holding.claims()
    folder = holding.files[0].parent
    beside = folder if claims.tokens is None and (folder / "config.json").is_file() else None
    return CandidateFacts(
        name=candidate.name,
        source=candidate.source,
        format=holding.format,
        files=dict(made.manifest.files),
        bits_per_weight=bits_per_weight(holding.stored()),
        base_model=claims.base_model,
        own_config=candidate.own_config,
        identity=check(reference, tokenizer, claims, made.float32, beside, min(made.fewer_rows.values(), default=None)),
    )


def _own_tokenizer(directory: Path | None, tokenizer: Any) -> tuple[Any, tuple[Difference, ...]]:
    """The candidate's, or None and what is wrong with it: it is not what the candidate is judged with."""
    try:
        return same_tokens.own_tokenizer(directory), ()
    except ModelError as error:
        broken = Difference(what="tokenizer", candidate=first_line(error), reference=type(tokenizer).__name__)
        return None, (broken,)


def config_for(reference: Mapping[str, Any], claims: Claims) -> dict[str, Any]:
    """The reference's config with what the candidate's files say of positions, epsilon, windows and soft caps put in,
    each where the reference has it; sizes and all that its files do not say stay the reference's.
    """
    said = config_reading.text_of(claims.config or {})
    table = next((key for key in TEXT_TABLES if isinstance(reference.get(key), dict)), None)
    inner: Mapping[str, Any] = reference if table is None else reference[table]
    changed = dict(inner)
    for key in config_reading.OWN:
        names = (key, *sorted(other_names(key)))
        if any(name in said for name in names):
            place = next((name for name in names if name in inner), key)
            changed[place] = config_reading.value_of(said, key)
    changed = _with_positions(changed, inner, claims.config or {})
    return changed if table is None else {**reference, table: changed}


def _with_positions(changed: dict[str, Any], inner: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
    """With the candidate's rotary positions, in the newer spelling; what they leave open is the reference's."""
    theirs, own = config_reading.positions(inner), config_reading.positions(mine)
    if not own or not theirs:
        return changed
    ropes: dict[str, Rope] = {}
    for kind, other in theirs.items():
        rope = config_reading.rope_for(own, kind)
        kept: Rope = {key: other[key] for key in ("rope_theta", "partial_rotary_factor") if key in other}
        ropes[kind] = other if rope is None else {**kept, "rope_type": "default", **rope}
    alone = ropes.get(ALL_LAYERS)
    return config_reading.without_positions(changed) | {"rope_parameters": ropes if alone is None else alone}
