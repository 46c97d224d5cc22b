"""What every engine has to keep to, as checks for anyone's own: `quantbench conform-engine module:Class`.

What is right comes from `reference_llama`, the methods' own `decode` and the definitions in `engines/`, and from no
other engine. A check of what an engine says that it cannot do is left out, and that is told.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pytest_quantbench.engines.protocol import Ability, Engine
from pytest_quantbench.workbench import engine_answer_checks as answers
from pytest_quantbench.workbench import engine_batch_checks as batches
from pytest_quantbench.workbench import engine_cache_checks as caches
from pytest_quantbench.workbench import engine_walk_checks as walks
from pytest_quantbench.workbench import engine_weight_checks as weights
from pytest_quantbench.workbench.conformance import problem
from pytest_quantbench.workbench.engine_models import SmallModels, small_models

Demand: TypeAlias = Callable[[Engine, SmallModels], None]
FIRST: tuple[Demand, ...] = (weights.says_what_it_is,)  # what fails here is not checked further
FOR_ALL: tuple[Demand, ...] = (
    weights.opens_every_parameter,
    weights.knows_its_capacity,
    weights.refuses_in_a_sentence,
    weights.writes_what_it_is_given,
    weights.decodes_every_method,
    weights.layers_agree_with_decode,
    weights.measures_itself,
)
OF_ABILITIES: Mapping[Ability, tuple[Demand, ...]] = {
    "walk": (
        walks.is_the_forward_pass,
        walks.equal_logits_are_told_as_such,
        walks.steps_are_the_run,
        walks.logits_at_are_those_of_all,
        walks.branches_go_on_from_their_rows,
        walks.keeps_to_a_window,
        walks.tracks_do_not_touch,
        walks.rounding_is_the_other_type,
        walks.a_track_that_ends_is_left_out,
        walks.states_may_go_to_files,
        walks.inputs_go_through_their_rules,
        walks.the_hash_is_of_decoded_weights,
        answers.logits_say_what_they_mean,
    ),
    "calibrate": (weights.shows_the_inputs,),
    "kv": (
        caches.a_walk_is_decoding_with_its_cache,
        caches.branches_are_held_like_their_texts,
        caches.a_cache_leaves_other_tracks_alone,
        caches.what_was_reached_is_told,
        caches.answers_are_written_with_the_cache,
    ),
    "resident": (
        answers.writes_the_likeliest_tokens,
        answers.answers_end_where_they_are_told,
        answers.times_every_token,
    ),
    "batches": (batches.rows_are_single_runs, batches.requests_are_single_runs, batches.knows_what_a_batch_takes),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of one check: its name, what it demands, and what was wrong; None where nothing was. `lacks`: the
    ability that the engine says it does not have, for which the check was left out.
    """

    name: str
    demands: str
    problem: str | None = None
    lacks: Ability | None = None


def findings(engine: Engine) -> Iterator[Found]:
    """Every check, as it is made. What does not say what it is is not checked further."""
    with small_models() as models:
        for demanded in FIRST:
            yield (found := made(demanded, engine, models))
            if found.problem:
                return
        for demanded in FOR_ALL:
            yield made(demanded, engine, models)
        for ability, several in OF_ABILITIES.items():
            for demanded in several:
                yield made(demanded, engine, models) if ability in engine.can else _left_out(demanded, ability)


def made(demanded: Demand, engine: Engine, models: SmallModels) -> Found:
    """One check of an engine."""
    found = problem(lambda subject: demanded(subject, models), engine)
    return Found(name=demanded.__name__, demands=_sentence(demanded), problem=found)


def _left_out(demanded: Demand, ability: Ability) -> Found:
    return Found(name=demanded.__name__, demands=_sentence(demanded), lacks=ability)


def _sentence(demanded: Demand) -> str:
    return " ".join((demanded.__doc__ or "").split())
