"""docs/compare.md names what there is; tests/docs_pages runs its examples."""

import re

from pages import NAMES

from pytest_quantbench.judge.figures import FIGURES


def test_the_page_names_every_figure_that_a_worsening_is_allowed_of():
    (row,) = re.findall(r"^\| `--allow FIGURE=X` \| (.*?) \|$", NAMES["docs/compare.md"].read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(FIGURES)
