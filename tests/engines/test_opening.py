"""What is said of an architecture that an engine does not know: what the others say, and which to choose."""

import pytest

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines import opening
from pytest_quantbench.errors import ArchitectureError, ModelError


class Knowing:
    """An engine that opens what it is told to."""

    def __init__(self, name, error=None):
        self.name, self.error = name, error

    def open(self, checkpoint):
        if self.error is not None:
            raise self.error
        return f"{self.name}'s"


UNKNOWN = ArchitectureError("Unsupported architecture: 'odd' is none of mine.")


@pytest.fixture
def others(monkeypatch):
    return lambda *engines: monkeypatch.setattr(opening, "installed", lambda: list(engines))


def test_what_an_engine_opens_it_opens_and_no_other_is_asked(others):
    others(Knowing("other", AssertionError("was asked")))
    assert opening.opened(Knowing("mine"), None) == "mine's"


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (None, r"'odd' is none of mine\. The engine 'other' knows it: choose --engine other\."),
        (
            UNKNOWN,
            r"'odd' is none of mine\. The engine 'other' does not know it either: Unsupported arch",
        ),
        (ModelError("A tensor is missing."), r"'other' knows it, and does not open this model: A tensor is missing\."),
    ],
)
def test_of_an_unknown_architecture_every_engine_says_what_it_knows(others, says, told):
    mine = Knowing("mine", UNKNOWN)
    others(mine, Knowing("other", says))
    with pytest.raises(ArchitectureError, match=told):
        opening.opened(mine, None)


def test_of_damaged_files_no_other_engine_is_asked(others):
    others(Knowing("other", AssertionError("was asked")))
    with pytest.raises(ModelError, match=r"^damaged$") as raised:
        opening.opened(Knowing("mine", ModelError("damaged")), None)
    assert not isinstance(raised.value, ArchitectureError)


def test_where_it_is_alone_it_says_what_it_does_not_know(others):
    mine = Knowing("mine", UNKNOWN)
    others(mine)
    with pytest.raises(ArchitectureError, match=r"^Unsupported architecture: 'odd' is none of mine\.$"):
        opening.opened(mine, None)


@pytest.mark.parametrize("engine", ["mlx", "torch"])
def test_a_made_up_architecture_is_known_to_neither(small_model, engine):
    """Both real engines raise the error that the other is asked after."""
    pytest.importorskip(engine)
    from pytest_quantbench import engines

    directory = small_model("llama")
    config = directory / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"nobodys"'))
    with pytest.raises(ArchitectureError, match=r"'nobodys' is not one that (mlx-lm|Transformers) has"):
        engines.get(engine).open(Checkpoint(directory))
