"""The table of cells in a headless Chromium: sorted and filtered by mouse and by keyboard, and found by its address."""

import json

import pytest
from chromium import opened, press, resized

LINES = "[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"


def shown(page):
    return page.execute_script(f"return {LINES}.map(row => row.dataset.name)")


def keys_of(page, column):
    """What a column's cells are sorted by, as they are shown; None where one is missing."""
    return page.execute_script(f"return {LINES}.map(row => row.querySelector('td.{column}').dataset.key ?? null)")


def header(page, column):
    return page.find_element("css selector", f"th[data-column={column}]")


def button(page, column):
    return header(page, column).find_element("css selector", "button")


@pytest.mark.parametrize("column", ["bits", "size", "rate", "speed", "perplexity", "kl", "drop", "snr"])
def test_a_column_of_numbers_is_sorted_both_ways_with_what_is_missing_last(page, column):
    came = shown(page)
    for direction, order in (("ascending", 1), ("descending", -1)):
        button(page, column).click()
        keys = keys_of(page, column)
        numbers = [float(key) for key in keys if key is not None]
        assert len(numbers) > 5
        assert keys[len(numbers) :] == [None] * (len(keys) - len(numbers))
        assert numbers == sorted(numbers, reverse=order < 0)
        assert header(page, column).get_attribute("aria-sort") == direction
    button(page, column).click()  # a third time: as the records came
    assert shown(page) == came


def test_a_column_of_texts_is_sorted_too(page):
    button(page, "verdict").click()
    keys = keys_of(page, "verdict")
    assert keys == sorted(keys)
    assert len(set(keys)) > 2


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter, Space
def test_columns_are_sorted_by_keyboard(page, key):
    page.execute_script("document.querySelector('th[data-column=kl] button').focus()")
    press(page, key)
    assert header(page, "kl").get_attribute("aria-sort") == "ascending"


def test_cells_are_filtered_by_text_level_model_and_verdict(page):
    everything = shown(page)
    assert len(everything) == 10
    page.find_element("id", "find").send_keys("qwen INT4")
    assert shown(page) == ["Qwen2.5-1.5B-Instruct-int4"]
    assert page.find_element("id", "shown").text == "1 of 10 shown"
    page.find_element("css selector", "#filters [type=reset]").click()
    assert shown(page) == everything
    for control, name in (("by-level", "level"), ("by-model", "model"), ("by-word", "word")):
        options = page.execute_script(f"return [...document.getElementById('{control}').options].map(o => o.text)")
        found = []
        for option in options[1:]:
            page.execute_script(
                f"const c = document.getElementById('{control}'); c.value = {json.dumps(option)};"
                "c.dispatchEvent(new Event('input'))"
            )
            one = page.execute_script(f"return {LINES}.map(row => row.dataset.{name})")
            assert set(one) <= {option}
            found += shown(page)
        assert sorted(found) == sorted(everything)
        page.find_element("css selector", "#filters [type=reset]").click()


def test_a_verdict_that_is_counted_is_a_filter(page):
    count = page.find_element("css selector", ".count.may-ship")
    count.click()
    assert len(shown(page)) == int(count.text.split()[0]) > 0
    assert count.get_attribute("aria-pressed") == "true"
    count.click()
    assert len(shown(page)) == 10


def test_an_address_shows_what_it_was_copied_from(page, report):
    button(page, "perplexity").click()
    button(page, "perplexity").click()
    page.find_element("id", "find").send_keys("int3")
    address, rows = page.current_url, shown(page)
    assert address.endswith("#sort=perplexity-&find=int3")
    page.get("about:blank")
    page.get(address)
    assert shown(page) == rows
    assert header(page, "perplexity").get_attribute("aria-sort") == "descending"


def test_an_address_with_what_there_is_not_shows_everything(page, report):
    opened(page, report, "sort=nonsense&other=1")
    assert len(shown(page)) == 10
    opened(page, report, "cell=No-such-cell")
    assert "There is no such cell in this report." in page.find_element("id", "cell").text


def test_rows_are_cards_where_it_is_narrow_and_can_still_be_sorted(page, report):
    resized(page, 390)
    opened(page, report)
    assert page.execute_script("return getComputedStyle(document.querySelector('#table tbody tr')).display") == "grid"
    page.execute_script(
        "const c = document.getElementById('by-column'); c.value = 'kl-'; c.dispatchEvent(new Event('change'))"
    )
    numbers = [float(key) for key in keys_of(page, "kl") if key is not None]
    assert numbers == sorted(numbers, reverse=True)


def test_cells_are_filtered_by_what_becomes_of_their_criteria(page, cells):
    """A cell that fails on one criterion is found by another that is undecided; options say how many there are."""
    options = page.execute_script(
        "return [...document.getElementById('by-criteria').options].slice(1).map(each => [each.value, each.text])"
    )
    for value, text in options:
        page.execute_script(
            "const c = document.getElementById('by-criteria'); c.value = arguments[0];"
            "c.dispatchEvent(new Event('input'))",
            value,
        )
        names = shown(page)
        assert text.endswith(f"({len(names)})")
        if value in ("undecided", "fail"):
            judged = [cell.record for cell in cells if any(v.outcome == value for v in cell.record.verdicts)]
            assert sorted(names) == sorted(f"{record.model_id}-{record.recipe}" for record in judged)
        assert f"criteria={value}" in page.current_url


def test_where_nothing_fits_a_sentence_says_so_and_clears(page):
    page.find_element("id", "find").send_keys("no such cell")
    assert shown(page) == []
    assert "No cell fits these filters." in page.find_element("id", "nothing").text
    page.find_element("id", "clear").click()
    assert len(shown(page)) == 10
    assert not page.find_element("id", "nothing").is_displayed()


def test_columns_stay_where_they_are_when_rows_are_filtered(page):
    places = "return [...document.querySelectorAll('#table thead th')].map(each => each.getBoundingClientRect().left)"
    before = page.execute_script(places)
    for text in ("int8", "no such cell"):
        page.find_element("id", "find").clear()
        page.find_element("id", "find").send_keys(text)
        assert page.execute_script(places) == pytest.approx(before, abs=1)


def test_numbers_stand_under_the_end_of_their_header(page):
    ends = page.execute_script(
        "const right = (each) => { const range = document.createRange(); range.selectNodeContents(each);"
        "  return range.getBoundingClientRect().right; };"
        "return [...document.querySelectorAll('#table thead th.number')].map(head => [head.dataset.column,"
        "  right(head.querySelector('span')), right(document.querySelector(`#table tbody td.${head.dataset.column}`))])"
    )
    assert len(ends) > 5
    for name, head, number in ends:
        assert head == pytest.approx(number, abs=3), name


def test_the_first_rows_are_in_view_when_a_column_is_sorted_from_below(page):
    page.execute_script("document.querySelector('#table tbody tr:last-child').scrollIntoView()")
    page.execute_script("document.querySelector('th[data-column=kl] button').click()")
    head, first = page.execute_script(
        "return [document.querySelector('#table thead').getBoundingClientRect().bottom,"
        "document.querySelector('#table tbody tr').getBoundingClientRect().top]"
    )
    assert 0 <= head <= first + 1


def test_a_link_that_the_keyboard_reaches_is_not_under_the_tables_head(page):
    """Going back up through the rows, where the head stays on top of the window."""
    for place in (9, 8, 1, 0):
        link = f"document.querySelectorAll('#table tbody a')[{place}]"
        page.execute_script(f"window.scrollTo(0, document.body.scrollHeight); {link}.focus()")
        head, top = page.execute_script(
            "return [document.querySelector('#table thead').getBoundingClientRect().bottom,"
            f"{link}.getBoundingClientRect().top]"
        )
        assert head <= top


def test_no_figure_sticks_out_of_its_card(page, report):
    resized(page, 320)
    opened(page, report)
    beyond = page.execute_script(
        "document.querySelectorAll('#table tbody tr').forEach(row => { row.style.contentVisibility = 'visible'; });"
        "return [...document.querySelectorAll('#table tbody td small')].filter(each =>"
        "each.getBoundingClientRect().right > each.closest('tr').getBoundingClientRect().right)"
        ".map(each => each.textContent)"
    )
    assert beyond == []


@pytest.mark.parametrize("width", [320, 1280])
def test_limits_are_not_cut(page, report, width):
    resized(page, width)
    opened(page, report)
    whole, seen = page.execute_script(
        "const box = document.querySelector('.limits .box'); return [box.scrollWidth, box.clientWidth]"
    )
    assert whole <= seen
