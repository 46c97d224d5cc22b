import json
from dataclasses import fields
from xml.etree import ElementTree

import pytest
from builders import make_change, make_record, make_verdict
from generated_suite import records as generated

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.report import badge

ASKED = asked_of("weights")

COLLAPSED = Coherence(**dict.fromkeys(field.name for field in fields(Coherence)) | {"loops": True})
WORSE = tuple(make_verdict(metric, baseline=(make_change("size"),)) for metric in ASKED)


def cell(recipe, *outcomes, model="Tiny", **changes):
    """A cell with these outcomes of its perplexity; its other criteria are met."""
    verdicts = [make_verdict("perplexity_delta", outcome) for outcome in outcomes]
    verdicts += [make_verdict(metric) for metric in ASKED if outcomes and metric != "perplexity_delta"]
    return make_record(**{"model_id": model, "recipe": recipe, "level": recipe, "verdicts": tuple(verdicts)} | changes)


@pytest.mark.parametrize(
    ("cells", "message", "outcome"),
    [
        ([cell("bf16"), cell("int4", "pass", "informational")], "int4 pass", "pass"),
        ([cell("int4", "pass"), cell("int3", "pass", "undecided")], "int3 undecided · int4 pass", "undecided"),
        ([cell("int4", "pass"), cell("int3", "undecided", "fail")], "int3 fail · int4 pass", "fail"),
        ([cell("int4", "anomalous")], "int4 anomalous", "anomalous"),
        ([cell("bf16")], "bf16 not judged", "informational"),
        ([cell("int4", "pass", integrity=("Layer 3 is another's.",))], "int4 fail", "fail"),
        ([cell("int4", "pass", coherence=COLLAPSED)], "int4 fail", "fail"),
        ([cell("int4", verdicts=(make_verdict("size_reduction_percent"),))], "int4 undecided", "undecided"),
        ([cell("int4", verdicts=WORSE), cell("int3", "pass")], "int4 fail · int3 pass", "fail"),
        ([], "nothing measured", "informational"),
        ([cell("int4", "pass"), cell("int4", "fail", model="Other")], "1 fail, 1 pass", "fail"),
    ],
)
def test_a_badge_says_what_may_ship_and_is_coloured_by_the_worst(cells, message, outcome):
    found = badge.badge(cells)
    assert (found.label, found.message, found.outcome) == ("quantbench", message, outcome)


def test_many_recipes_are_counted():
    cells = [cell(f"int4-a-long-name-{n}", "pass") for n in range(8)]
    assert badge.badge(cells).message == "8 pass"


def test_shields_gets_its_four_fields():
    told = json.loads(badge.endpoint(badge.badge([cell("int4", "pass")], "Ein Modell")))
    assert told == {"schemaVersion": 1, "label": "Ein Modell", "message": "int4 pass", "color": "brightgreen"}


@pytest.mark.parametrize("label", ["quantbench", "<Modell> & Söhne", "Ω" * 30])
def test_the_picture_is_xml_that_fits_its_text_and_says_it_to_who_does_not_see_it(label):
    picture = ElementTree.fromstring(badge.svg(badge.badge([cell("int4", "fail")], label)))
    name = "{http://www.w3.org/2000/svg}"
    width = int(picture.get("width"))
    assert picture.find(f"{name}title").text == f"{label}: int4 fail" == picture.get("aria-label")
    texts = picture.findall(f".//{name}text")
    assert [each.text for each in texts] == [label, "int4 fail"]
    ends = [int(each.get("x")) + int(each.get("textLength")) for each in texts]
    assert ends[0] < int(texts[1].get("x"))
    assert ends[1] < width
    assert sum(int(each.get("width")) for each in picture.findall(f"{name}g/{name}rect")) == width


def test_text_is_legible_on_its_ground():
    """White on each colour has a contrast of at least 4.5, as WCAG 2 asks of text (success criterion 1.4.3)."""

    def luminance(color):
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for _, color in [*badge.COLORS.values(), ("", "#3d444d")]:
        assert 1.05 / (luminance(color) + 0.05) >= 4.5


def test_there_is_one_of_all_and_one_of_each_model():
    found = badge.files(generated(3, recipes=("int4", "int3")))
    names = {name.rpartition(".")[0] for name in found}
    assert len(names) == 4
    assert "quantbench" in names
    assert {name.rpartition(".")[2] for name in found} == {"svg", "json"}
