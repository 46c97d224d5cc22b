"""The models that can be judged, and what a user's own is taken for. This is a file you edit."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_quantbench.errors import QuantbenchError

TINY_DIRECTORY = Path(__file__).parent.parent / "tiny" / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that can be judged. `source` is a Hub id or a directory; sizes are of the BF16 weights."""

    name: str
    source: str
    family: str = "unknown"
    parameters: float | None = None
    bf16_gb: float | None = None
    licence: str = "unknown"
    gated: bool = False
    corpus: str = "wikitext2"
    calibration: str = "c4"
    calibration_sequences: int = 128
    tasks: tuple[str, ...] = ("arc_easy", "hellaswag")

    @property
    def local(self) -> bool:
        """Whether the weights lie in a directory and nothing has to be fetched."""
        return Path(self.source).is_dir()


def _hub(
    source: str, family: str, billions: float, gb: float, licence: str, gated: bool = False, name: str = ""
) -> Model:
    return Model(
        name=name or source.split("/")[1],
        source=source,
        family=family,
        parameters=billions * 1e9,
        bf16_gb=gb,
        licence=licence,
        gated=gated,
    )


_MODELS = (
    Model(
        name="Tiny",
        source=str(TINY_DIRECTORY),
        family="llama",
        parameters=3_672_320,
        bf16_gb=0.0073,
        licence="Apache-2.0",
        corpus="tiny-heldout",
        calibration="tiny-train",
        calibration_sequences=32,  # of 512 tokens: 21 for every input of its widest matrix
        tasks=("tiny_facts", "tiny_endings"),
    ),
    _hub("Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 1.54, 3.09, "Apache-2.0"),
    _hub("meta-llama/Llama-3.2-3B-Instruct", "llama", 3.21, 6.43, "Llama 3.2 Community", gated=True),
    _hub("google/gemma-3-4b-it", "gemma3", 4.30, 8.60, "Gemma", gated=True),
    _hub("Qwen/Qwen2.5-7B-Instruct", "qwen2", 7.62, 15.23, "Apache-2.0"),
    _hub("mistralai/Mistral-7B-Instruct-v0.3", "mistral", 7.25, 14.50, "Apache-2.0"),
    _hub("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen2", 7.62, 15.23, "MIT"),
    _hub("meta-llama/Llama-3.1-8B-Instruct", "llama", 8.03, 16.06, "Llama 3.1 Community", gated=True),
    _hub("Qwen/Qwen3-8B", "qwen3", 8.19, 16.38, "Apache-2.0"),
    _hub("microsoft/phi-4", "phi3", 14.66, 29.32, "MIT"),
    _hub("Qwen/Qwen2.5-14B-Instruct", "qwen2", 14.77, 29.54, "Apache-2.0"),
)
MODELS: Mapping[str, Model] = MappingProxyType({model.name: model for model in _MODELS})


PATH_STARTS = (".", "/", "~")  # no owner of models on the Hub begins so


def user_model(source: str, given: str = "--model") -> Model:
    """A model of the user's own, from a path or a Hub id; its name is the last part of the path or id, as given: of a
    link its own. Or one of the catalogue, by its name where there is no such path. Raises QuantbenchError, which says
    where it was `given`, for what is neither.
    """
    path = os.path.abspath(os.path.expanduser(source))
    if os.path.exists(path) or source.startswith(PATH_STARTS):
        return Model(name=os.path.basename(path), source=os.path.realpath(path))
    if source in MODELS:
        return MODELS[source]
    owner, _, name = source.partition("/")
    if not owner or not name or "/" in name:
        raise QuantbenchError(f"{given} {source!r} is neither an existing directory nor a Hub id like 'owner/name'.")
    return Model(name=name, source=source)


def check_models(sources: Iterable[str], given: str = "--model") -> None:
    """Raise QuantbenchError, before anything is run, for a path where there is no model directory: nothing, a file, or
    a directory without a config.json. Of a Hub id only the Hub can say whether it is there.
    """
    for source in sources:
        path = os.path.expanduser(source)
        if os.path.isdir(path):
            if not os.path.isfile(os.path.join(path, "config.json")):
                raise QuantbenchError(f"{given} {source}: this directory has no config.json, so it is not a model.")
        elif os.path.exists(path):
            raise QuantbenchError(f"{given} {source}: this is a file; give the directory that a model lies in.")
        elif source.startswith(PATH_STARTS):
            raise QuantbenchError(f"{given} {source}: there is no such directory.")


def original(source: str, given: str = "--model") -> Model:
    """The model that candidates are compared with: the catalogue's entry, also by its Hub id, else the user's own.
    Raises QuantbenchError, which says where it was `given`, where there is none.
    """
    check_models([source], given)
    own = user_model(source, given)
    return next((model for model in MODELS.values() if model.source == own.source), own)


def all_models(own: Iterable[Model]) -> dict[str, Model]:
    """The catalogue and the user's own models by name; one that is given twice counts once. Raises QuantbenchError if
    two with different sources have the same name.
    """
    models = dict(MODELS)
    for model in own:
        known = models.setdefault(model.name, model)
        if known.source != model.source:
            raise QuantbenchError(
                f"Two models are called {model.name!r}, {known.source} and {model.source}; "
                "leave one of them out, or rename its directory."
            )
    return models
