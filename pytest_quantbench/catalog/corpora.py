"""The texts that T2 reads, methods are calibrated on and T1 goes on from, and how they are cut. You edit this file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pytest_quantbench.catalog.models import TINY_DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A text for T2 or for calibration: a file, what a function returns, or rows of a dataset on the Hub, joined."""

    name: str
    path: Path | None = None
    maker: str = ""  # module:function
    dataset: str = ""
    revision: str | None = None  # of the dataset
    config: str | None = None
    files: str | None = None  # of the dataset, where not all are wanted
    split: str = "test"
    rows: int | None = None  # None: all
    column: str = "text"
    joiner: str = ""


C4_REVISION = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"


CORPORA: Mapping[str, Corpus] = MappingProxyType(
    {
        "wikitext2": Corpus(
            name="wikitext2",
            dataset="Salesforce/wikitext",
            revision="b08601e04326c79dfdd32d625aee71d232d685c3",
            config="wikitext-2-raw-v1",
        ),
        "ptb": Corpus(
            name="ptb",
            dataset="ptb-text-only/ptb_text_only",
            revision="refs/convert/parquet",  # the dataset itself is a script, which nothing here runs
            files="penn_treebank/test/*.parquet",
            split="train",  # what `datasets` calls the only file
            column="sentence",
            joiner=" ",
        ),
        "c4": Corpus(
            name="c4",
            dataset="allenai/c4",
            revision=C4_REVISION,
            files="en/c4-train.00000-of-01024.json.gz",
            split="train",
            rows=4096,
            joiner="\n\n",
        ),
        "c4-validation": Corpus(
            name="c4-validation",
            dataset="allenai/c4",
            revision=C4_REVISION,
            files="en/c4-validation.00000-of-00008.json.gz",
            split="train",  # what `datasets` calls the only file
            rows=1100,
            joiner="\n\n",
        ),
        "tiny-train": Corpus(name="tiny-train", maker="pytest_quantbench.tiny.text:training_text"),
        "tiny-heldout": Corpus(name="tiny-heldout", path=TINY_DIRECTORY / "heldout.txt"),
    }
)


CONTEXT_TOKENS = 2048


Sampling = Literal["windows", "head"]  # how T2 takes tokens of a text


WINDOW_TOKENS = 256  # of a window that is drawn: as much context as the first 512 tokens of a text have on average


SCORED_TOKENS = 64  # of its end


HEAD_TOKENS = 512  # of a text, whose perplexity is what published tables of quantized models show


HEAD_OF_TEXT = "(head)"  # what stands for a text's first tokens beside the names of other texts

# How far back a model has to look, in tokens: what is told by depth is told between these.
DEPTHS = (512, 1024, 2048, 4096, 8192)

# What T1 lets a model go on from, and for how many tokens.
PROMPTS = (
    "Explain the theory of relativity in simple terms.",
    "Write a Python function to compute Fibonacci numbers.",
    "What are the pros and cons of electric vehicles?",
    "Summarise the French Revolution in 3 sentences.",
    "What is the difference between supervised and unsupervised learning?",
)
NEW_TOKENS = 256
