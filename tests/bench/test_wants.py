"""What is read together, and whom a session waits for. No model is looked at."""

from dataclasses import replace
from operator import itemgetter
from types import SimpleNamespace

from builders import make_target
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.bench.wants import Lack, Want, doing, references, together, with_reference
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

BF16, INT4, INT3 = (make_target(name) for name in ("bf16", "int4-rtn", "int3-rtn"))


def lack(target, measure, start=0):
    return Lack(target=target, measure=measure, share=SimpleNamespace(work={"there": start}))


def test_the_reference_is_wanted_before_what_is_compared_with_it():
    want = Want(target=INT4, measure=PERPLEXITY, items=256)
    assert with_reference(want) == [Want(target=BF16, measure=PERPLEXITY, items=256), want]
    alone = Want(target=BF16, measure=PERPLEXITY)
    assert with_reference(alone) == [alone]
    assert [each.target for each in with_reference(Want(target=BF16.rounded, measure=ACCURACY))] == [BF16, BF16.rounded]


def test_targets_that_lack_the_same_share_a_walk():
    everything = [lack(target, measure) for measure in (ACCURACY, PERPLEXITY) for target in (BF16, INT4, INT3)]
    (walk,) = together(everything)
    assert [(each.target, each.measure.label) for each in walk] == [
        (target, label) for target in (BF16, INT4, INT3) for label in ("T2", "T3")
    ]


def test_what_one_lacks_alone_is_a_walk_of_its_own():
    walks = together([lack(BF16, PERPLEXITY, 128), lack(INT4, PERPLEXITY), lack(INT3, PERPLEXITY, 128)])
    assert [[each.target for each in walk] for walk in walks] == [[BF16, INT3], [INT4]]
    walks = together([lack(BF16, PERPLEXITY), lack(INT4, PERPLEXITY), lack(INT4, ACCURACY)])
    assert [[each.target for each in walk] for walk in walks] == [[BF16], [INT4, INT4]]


LACKS = st.lists(
    st.tuples(st.sampled_from([BF16, INT4, INT3]), st.sampled_from([PERPLEXITY, ACCURACY]), st.integers(0, 2)),
    unique_by=itemgetter(0, 1),
)


@given(LACKS)
def test_every_lack_is_on_one_walk_and_all_of_a_walk_lack_the_same(drawn):
    lacking = [lack(*each) for each in drawn]
    walks = together(lacking)
    assert sorted(map(id, lacking)) == sorted(id(each) for walk in walks for each in walk)
    kinds = []
    for walk in walks:
        by_target = {
            target: [(each.measure.name, each.share.work["there"]) for each in walk if each.target == target]
            for target in (each.target for each in walk)
        }
        (kind,) = {tuple(kind) for kind in by_target.values()}
        kinds.append(kind)
    assert len(kinds) == len(set(kinds))


def test_the_reference_is_waited_for_only_where_nothing_else_is_wanted():
    assert references([lack(BF16, PERPLEXITY), lack(INT4, PERPLEXITY)]) == {"measuring T2 of Tiny-bf16"}
    assert references([lack(BF16, PERPLEXITY)]) == references([lack(INT4, PERPLEXITY)]) == references([]) == set()
    assert doing(lack(BF16.rounded, ACCURACY)) == "measuring T3 of Tiny-bf16 with other activations"


def test_a_candidate_with_a_config_of_its_own_walks_alone():
    own, other = (
        replace(BF16, recipe=recipe_of_candidate(Candidate(name=name, source="x", own_config=name == "own"), 4.5))
        for name in ("own", "other")
    )
    walks = together([lack(each, PERPLEXITY) for each in (BF16, own, other)])
    assert [[each.target for each in walk] for walk in walks] == [[BF16, other], [own]]
