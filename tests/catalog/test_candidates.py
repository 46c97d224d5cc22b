import pytest

from pytest_quantbench.catalog.candidates import Candidate, name_and_source, printable
from pytest_quantbench.errors import QuantbenchError


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("models/q4.gguf", (None, "models/q4.gguf")),
        ("q4=models/q4.gguf", ("q4", "models/q4.gguf")),
        ("q4=a/b@main:x=y.gguf", ("q4", "a/b@main:x=y.gguf")),
        ("./a=b", (None, "./a=b")),  # no name has a slash
        ("a b=c", (None, "a b=c")),
    ],
)
def test_a_name_stands_before_the_first_sign_of_equality(typed, given):
    assert name_and_source(typed) == given


def test_a_path_that_exists_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q=4").mkdir()
    assert name_and_source("q=4") == (None, "q=4")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Q4_K_M", "Q4_K_M"), ("my model (2)", "my_model__2_"), ("..hidden", "hidden"), ("モデル-4bit", "4bit")],
)
def test_names_are_made_printable(name, shown):
    assert printable(name) == shown


@pytest.mark.parametrize("name", ["", "-q4", "q 4", "q/4", "模型"])
def test_a_name_that_no_item_can_have_is_refused_with_how_to_give_another(name):
    with pytest.raises(QuantbenchError, match=r"cannot be called .*Name it with --candidate NAME=x\.gguf\."):
        Candidate(name=name, source="x.gguf")
