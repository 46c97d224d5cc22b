"""Every link of README.md and of docs/ leads somewhere, on GitHub and on the site, and the site names every page."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pages import NAMES, PAGES, ROOT, tokens

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def text_of(token):
    return "".join(child.content for child in token.children if child.type in ("text", "code_inline"))


def anchors(page):
    """What GitHub and the site make of a page's headings: small letters, marks left out, `-` for spaces."""
    parsed, found = tokens(page), []
    for token, after in pairwise(parsed):
        if token.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", text_of(after).lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


def links(page):
    """Of each link and picture of a page what it leads to."""
    found = []
    for token in tokens(page):
        for child in token.children or ():
            found += [value for name, value in (child.attrs or {}).items() if name in ("href", "src")]
    return found


def wrong(page, root=ROOT):
    """Of a page's links those that lead nowhere, or out of the folder `root`."""
    found = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:|mailto:", link):
            continue
        file = (NAMES[page].parent / target).resolve() if target else NAMES[page]
        inside = file.is_relative_to(root) and file.exists()
        known = inside and file.suffix == ".md" and anchors(str(file.relative_to(root)))
        if not inside or (anchor and anchor not in (known or ())):
            found.append(link)
    return found


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_somewhere(page):
    assert wrong(page) == []


def test_a_link_that_leads_nowhere_would_be_seen(tmp_path, monkeypatch):
    told = tmp_path / "page.md"
    told.write_text("# A page\n\n[one](nowhere.md) [two](#nothing) [three](#a-page) ![four](none.svg)\n")
    monkeypatch.setitem(NAMES, "page.md", told)
    assert wrong("page.md", tmp_path) == ["nowhere.md", "#nothing", "none.svg"]


def named(navigation):
    """The files of the site's table of contents, in its order."""
    for entry in navigation:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else named(value)


def test_the_site_names_every_page_once():
    assert sorted(named(SITE["nav"])) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


@pytest.mark.parametrize("page", sorted(set(NAMES) - {"README.md"}))
def test_a_page_links_to_what_the_site_has(page):
    """Out of docs/ a relative link works on GitHub alone: such files are named, and not linked."""
    relative = [link for link in links(page) if not re.match(r"https?:|mailto:|#", link)]
    outside = [link for link in relative if not (NAMES[page].parent / link).resolve().is_relative_to(ROOT / "docs")]
    assert outside == []


def test_the_site_asks_for_nothing_from_elsewhere():
    """No fonts, scripts or style sheets of other servers: it is read without a network, too."""
    assert SITE["theme"]["font"] is False
    written = (ROOT / "mkdocs.yml").read_text()
    assert set(re.findall(r"https?://[^\s\"']+", written)) == set()
    assert all(Path(ROOT / "docs" / file).is_file() for file in SITE.get("extra_css", ()))
