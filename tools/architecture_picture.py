"""docs/architecture.svg: the packages in the order in which they may import, what each is for, and what it does import.

    python tools/architecture_picture.py

The order is that of `[tool.importlinter]` in pyproject.toml, the job of a package the first sentence of its docstring,
and a dot an import that stands in one of its modules. A test draws the picture again and compares.
"""

import ast
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PACKAGE = "pytest_quantbench"
PICTURE = ROOT / "docs" / "architecture.svg"
# Named in a box where a module of the package imports them: what runs models, what asks questions, and pytest.
LIBRARIES = ("mlx", "mlx_lm", "torch", "transformers", "lm_eval", "pytest")
# What a model goes through, in order; the packages between them serve these.
PIPELINE = ("catalog", "fetch", "checkpoints", "compress", "measures", "judge", "record", "report")

WIDTH, MARGIN, ROW, HEAD = 800, 10, 42, 104
BOX, INDENT = 408, 32
LINE = 68  # characters of a job in a line
FIRST_COLUMN, COLUMN = MARGIN + BOX + 18, 17.5
INK, PALE, DOT, WRONG = "#1f2933", "#d5dbe1", "#2b6cb0", "#c53030"
LEGEND = (
    "A dot: the package of the row imports that of the column (red: upwards).",
    "The numbers are the way of a model through a run. In grey: which",
    "packages name pytest or a library that runs models.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package or a module directly below ours."""

    name: str
    job: str  # a sentence
    imports: frozenset[str]  # other packages of ours
    libraries: tuple[str, ...]  # those of LIBRARIES that it imports


def order() -> list[str]:
    """The names of the packages, those first that may import the most."""
    with ROOT.joinpath("pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers: list[str] = next(each["layers"] for each in contracts if each["type"] == "layers")
    return layers


def job(name: str) -> str:
    """The first sentence of a package's docstring. Raises ValueError where there is none."""
    folder = ROOT / PACKAGE / name
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    told = ast.get_docstring(ast.parse(file.read_text()))
    if not told:
        raise ValueError(f"{file} has no docstring: say in its first sentence what the package is for.")
    sentence, _, _ = " ".join(told.replace("`", "").split()).partition(". ")
    return sentence.removesuffix(".")


def packages() -> list[Package]:
    """All of them, in order, as their files are now; imports under TYPE_CHECKING count."""
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
    names, found = order(), []
    for name in names:
        told = {
            target
            for module in graph.modules
            if module.split(".")[:2] == [PACKAGE, name]
            for target in graph.find_modules_directly_imported_by(module)
        }
        ours = {target.split(".")[1] for target in told if target.startswith(f"{PACKAGE}.")} - {name}
        libraries = tuple(each for each in LIBRARIES if each in told)
        found.append(Package(name=name, job=job(name), imports=frozenset(ours), libraries=libraries))
    return found


def draw(shown: Sequence[Package]) -> str:
    """The picture as SVG: a box for every package, and beside it a dot in the column of what it imports."""
    height = HEAD + ROW * len(shown) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        " font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">",
        f"<title>The packages of {PACKAGE} and what they import</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(MARGIN, 26, "A package imports only packages below it", size=16, weight="bold"),
        *(_text(MARGIN, 48 + 16 * line, content, size=11) for line, content in enumerate(LEGEND)),
    ]
    for row, package in enumerate(shown):
        lines += [*_guides(row, package.name), *_box(row, package)]
    for row, package in enumerate(shown):
        lines += _dots(row, package, [each.name for each in shown])
    return "\n".join([*lines, "</svg>", ""])


def _middle(row: int) -> float:
    return HEAD + ROW * row + ROW / 2


def _column(index: int) -> float:
    return FIRST_COLUMN + COLUMN * index


def _text(x: float, y: float, content: str, *, size: float, weight: str = "normal", more: str = "") -> str:
    style = f'font-size="{size:g}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style} fill="{INK}"{more}>{escape(content)}</text>'


def _guides(row: int, name: str) -> Iterator[str]:
    """From a box to the end of its column, where a square stands for the package, and up to its name."""
    x, y = _column(row), _middle(row)
    yield f'<path d="M{MARGIN + BOX:g} {y:g}H{x:g}V{HEAD}" fill="none" stroke="{PALE}"/>'
    yield f'<rect x="{x - 4:g}" y="{y - 4:g}" width="8" height="8" fill="{INK}"/>'
    yield _text(x + 3, HEAD - 5, name, size=11, more=f' transform="rotate(-60 {x + 3:g} {HEAD - 5})"')


def _box(row: int, package: Package) -> Iterator[str]:
    """Name, libraries and job. Raises ValueError for a job that does not fit."""
    top = HEAD + ROW * row
    jobs = textwrap.wrap(package.job, LINE)
    if len(jobs) > 2:
        raise ValueError(f"What {package.name} is for takes more than two lines of {LINE} characters: {package.job!r}")
    yield (f'<rect x="{MARGIN}" y="{top + 2}" width="{BOX}" height="{ROW - 4}" rx="4" fill="#f5f7fa" stroke="{PALE}"/>')
    yield _text(MARGIN + INDENT, top + 15, package.name, size=13, weight="bold")
    if package.name in PIPELINE:
        x, y, place = MARGIN + INDENT / 2, _middle(row), PIPELINE.index(package.name) + 1
        yield f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{INK}"/>'
        yield _text(x, y + 4, f"{place}", size=11, more=' text-anchor="middle" style="fill:white"')
    if libraries := ", ".join(package.libraries):
        yield _text(MARGIN + BOX - 8, top + 15, libraries, size=10, more=' text-anchor="end" fill-opacity="0.6"')
    for line, content in zip(count(), jobs):
        yield _text(MARGIN + INDENT, top + 26 + 10.5 * line, content, size=10)


def _dots(row: int, package: Package, names: Sequence[str]) -> Iterator[str]:
    """One for each import; one that runs upwards is red."""
    for index, name in enumerate(names):
        if name in package.imports:
            told = f"{package.name} imports {name}"
            fill = DOT if index > row else WRONG
            place = f'cx="{_column(index):g}" cy="{_middle(row):g}"'
            yield f'<circle {place} r="4.5" fill="{fill}"><title>{told}</title></circle>'


def main() -> None:
    PICTURE.write_text(draw(packages()))


if __name__ == "__main__":
    main()
