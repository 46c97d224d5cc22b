"""Records → a badge: what may ship, in one line of text on a coloured ground, as an SVG or for shields.io to draw.

The SVG has no font of its own and nobody to measure text by, so each text is stretched to the width that is set aside
for it, which a table of letters' widths in Verdana estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import msgspec

from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import outcome_of
from pytest_quantbench.record.suite import SEVERITY

COLORS: dict[Outcome, tuple[str, str]] = {  # by what came out worst: the name that shields knows, and ours in the SVG
    "fail": ("red", "#b3261e"),
    "anomalous": ("orange", "#a34a00"),
    "undecided": ("yellow", "#8a6d00"),
    "pass": ("brightgreen", "#1a7f37"),
    "informational": ("lightgrey", "#57606a"),
}
WORDS: dict[Outcome, str] = {**{outcome: outcome for outcome in COLORS}, "informational": "not judged"}
MOST_LETTERS = 48  # of a message that names recipes; a longer one counts them
NARROW, WIDE = "fijlrt.,:;'|!()[] ", "mwMW%@"
PIXELS = 6.6  # of a letter of 11 pixels' height; of a narrow one and a wide one:
NARROW_PIXELS, WIDE_PIXELS = 4.0, 10.2
MARGIN, HEIGHT = 6, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """What stands on it, and the outcome that colours it."""

    label: str
    message: str
    outcome: Outcome


def badge(records: Sequence[Record], label: str = "quantbench") -> Badge:
    """Of these cells; those without a verdict, such as the reference, count only where there are no others."""
    found: dict[Outcome, list[str]] = {each: [] for each in SEVERITY}
    for record in records:
        found[outcome_of(record)].append(record.recipe)
    told = {each: recipes for each, recipes in found.items() if recipes}
    if len(told) > 1:
        told.pop("informational", None)
    by_name = " · ".join(f"{', '.join(recipes)} {WORDS[each]}" for each, recipes in told.items())
    counted = ", ".join(f"{len(recipes)} {WORDS[each]}" for each, recipes in told.items())
    one_model = len({record.model_id for record in records}) == 1
    message = by_name if one_model and len(by_name) <= MOST_LETTERS else counted
    return Badge(label=label, message=message or "nothing measured", outcome=next(iter(told), "informational"))


def endpoint(shown: Badge) -> bytes:
    """The JSON that shields.io draws a badge of, where its `endpoint` badge is given the address of this file."""
    told = {"schemaVersion": 1, "label": shown.label, "message": shown.message, "color": COLORS[shown.outcome][0]}
    return msgspec.json.encode(told) + b"\n"


def svg(shown: Badge) -> bytes:
    """The badge as a picture, with its text as a title for who does not see it."""
    left, right = (_pixels(text) + 2 * MARGIN for text in (shown.label, shown.message))
    title = escape(f"{shown.label}: {shown.message}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" '
        f'aria-label="{title}">',
        f"<title>{title}</title>",
        f'<clipPath id="round"><rect width="{left + right}" height="{HEIGHT}" rx="3"/></clipPath>',
        '<g clip-path="url(#round)">',
        f'<rect width="{left}" height="{HEIGHT}" fill="#3d444d"/>',
        f'<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{COLORS[shown.outcome][1]}"/>',
        "</g>",
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">',
        _text(shown.label, MARGIN),
        _text(shown.message, left + MARGIN),
        "</g>",
        "</svg>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _text(text: str, x: int) -> str:
    return f'<text x="{x}" y="14" textLength="{_pixels(text)}">{escape(text)}</text>'


def _pixels(text: str) -> int:
    """About how wide a text is."""
    widths = {**dict.fromkeys(NARROW, NARROW_PIXELS), **dict.fromkeys(WIDE, WIDE_PIXELS)}
    return round(sum(widths.get(letter, PIXELS) for letter in text))


def files(records: Sequence[Record]) -> dict[str, bytes]:
    """A badge of all these records and one of each model, by the names of the files: `quantbench.svg`, `Tiny.json`."""
    models = dict.fromkeys(record.model_id for record in records)
    badges = {"quantbench": badge(records)}
    badges |= {name: badge([each for each in records if each.model_id == name], name) for name in models}
    return {f"{name}{ending}": make(each) for name, each in badges.items() for ending, make in FORMS.items()}


FORMS = {".svg": svg, ".json": endpoint}
