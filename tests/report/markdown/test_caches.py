"""The tables of cells with a quantized cache: what it takes, and what it loses by depth."""

from builders import make_at_depth, make_cache, make_perplexity, make_record, make_verdict

from pytest_quantbench.report.markdown import caches
from pytest_quantbench.stats.estimates import Interval

SAME = Interval(estimate=0.987, low=0.97, high=0.99)
PARTS = (make_at_depth(0, 512, 0.25, same_top=SAME), make_at_depth(512, 1024, 0.5, delta_interval=None, kl_nats=None))


def record(**changes):
    cache = make_cache(kl_within_noise=False, delta_within_noise=True, reached_percent=98.4, noise_nats=3.7e-7)
    given = {"recipe": "kv4", "level": "kv", "bits": 16, "cache": cache}
    return make_record(**given | {"perplexity": make_perplexity(by_depth=PARTS)} | changes)


def test_each_cell_has_its_size_and_a_row_for_each_depth():
    verdict = make_verdict("depth_perplexity_delta", "fail")
    lines = caches.section([make_record(), record(verdicts=(verdict,))])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert lines[0] == "## Key-value cache"
    assert rows[1] == ["Tiny-kv4", "affine", "4.00", "64", "75.0", "512", "98.4", "no", "3.7e-7", "yes"]
    assert rows[3] == ["Tiny-kv4 ✗", "0–512", "512", "4.000", "+0.250 [+0.150, +0.350]", "0.010", "98.7"]
    assert rows[4] == ["", "512–1k", "512", "4.000", "–", "–", "–"]
    assert len(rows) == 5


def test_what_was_not_measured_has_no_table():
    assert caches.section([make_record(perplexity=make_perplexity(by_depth=PARTS))]) == []
    assert caches.section([record(perplexity=None, cache=make_cache(size=None))]) == []
    sized = caches.section([record(perplexity=None)])
    assert caches.SIZES_LEGEND in sized
    assert caches.DEPTHS_LEGEND not in sized
