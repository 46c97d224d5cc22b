"""What tells verdicts of one record apart."""

from builders import make_verdict


def test_a_cells_own_criterion_is_one_whatever_its_limit():
    own = make_verdict("perplexity_delta", limit=1.0, of="wikitext2")
    changed = make_verdict("perplexity_delta", "fail", limit=3.0, of="wikitext2")
    assert own.criterion == changed.criterion == ("perplexity_delta", "wikitext2", None)


def test_limits_that_tests_give_are_criteria_of_their_own():
    given = [make_verdict("perplexity_delta", limit=limit, given=True, of="c") for limit in (1.0, 3.0)]
    others = [make_verdict("perplexity_delta", of="c"), make_verdict("perplexity_delta", of="another")]
    assert len({verdict.criterion for verdict in (*given, *others)}) == 4
    assert given[0].criterion == ("perplexity_delta", "c", 1.0)
