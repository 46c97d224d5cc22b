"""Models to time: shapes of known ones, random weights, and random codes in the formats of our methods.

How fast a matrix is multiplied with does not depend on its values, so nothing is fitted: a matrix of any size is
encoded in the time that it takes to copy its bytes. Each one has arrays of its own, as in a real model; on a CPU shared
ones would stay in the caches. The texts of such a model are noise.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np

from pytest_quantbench.catalog.recipes import Part, recipe
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.aqlm import Aqlm
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.int8 import Int8
from pytest_quantbench.quantizers.milo import Milo
from pytest_quantbench.quantizers.nibble import Nibble
from pytest_quantbench.quantizers.protocol import Arrays, Codec
from pytest_quantbench.quantizers.quip import Quip
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.quantizers.vptq import Vptq

if TYPE_CHECKING:
    import torch  # other engines run without it

Shape: TypeAlias = tuple[int, int]  # (out, in)
Make: TypeAlias = Callable[[np.random.Generator, int, int], Arrays]
DEVIATION = 0.02  # of weights
# What a level or a format that cannot be run ends in; PyTorch says with RuntimeError what a device does not have.
WRONG = (QuantbenchError, RuntimeError, ValueError, ImportError)
LEVELS = ("bf16", "int4", "int3", "int2", "int8", "int2-vptq", "int2-quip")  # those with goals first
POOL, PIECE = 1 << 25, 1 << 24  # random bytes that are drawn once, and how many of them are copied from one place
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def _config(hidden: int, inner: int, layers: int, heads: int, key_heads: int, vocabulary: int) -> dict[str, Any]:
    return LLAMA | {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": hidden // heads,
        "vocab_size": vocabulary,
    }


SHAPES: Mapping[str, dict[str, Any]] = {
    "8B": _config(4096, 14_336, 32, 32, 8, 128_256),  # Llama 3.1
    "100M": _config(1024, 2816, 8, 16, 8, 4096),
    "small": _config(256, 768, 2, 4, 2, 512),
}


def parameters(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The parameters of a Llama by their published names, matrices (out, in)."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    rows = {"q": config["num_attention_heads"] * head, "k": config["num_key_value_heads"] * head}
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        path = f"model.layers.{layer}"
        for name, count in (rows | {"v": rows["k"]}).items():
            found[f"{path}.self_attn.{name}_proj.weight"] = (count, hidden)
        found[f"{path}.self_attn.o_proj.weight"] = (hidden, rows["q"])
        found |= {f"{path}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        found[f"{path}.mlp.down_proj.weight"] = (hidden, inner)
        found |= {f"{path}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (hidden,), "lm_head.weight": (config["vocab_size"], hidden)}


def words(rng: np.random.Generator, *shape: int, kind: Any = np.uint32) -> np.ndarray[Any, Any]:
    """Random bits: pieces of one pool, each from a place that is drawn, for 8 GB take half a minute to draw."""
    pool, drawn = _pool(), np.empty(int(np.prod(shape)) * np.dtype(kind).itemsize, np.uint8)
    for begin in range(0, len(drawn), PIECE):
        part, start = drawn[begin : begin + PIECE], int(rng.integers(POOL - PIECE))
        part[:] = pool[start : start + len(part)]
    return drawn.view(kind).reshape(shape)


@cache
def _pool() -> np.ndarray[Any, Any]:
    return np.frombuffer(np.random.default_rng(0).bytes(POOL), np.uint8)


def scales(rng: np.random.Generator, *shape: int, top: float, kind: Any = np.float16) -> np.ndarray[Any, Any]:
    """Positive, so that codes up to `top` make weights of a usual size."""
    return (2 * DEVIATION / top * rng.uniform(0.5, 1.0, shape)).astype(kind)


def _rtn(bits: int) -> Make:
    def make(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
        top = 2**bits - 1
        steps = scales(rng, outs, ins // 64, top=top, kind=ml_dtypes.bfloat16)
        biases = -steps * steps.dtype.type(top / 2)
        return {"weight": words(rng, outs, ins * bits // 32), "scales": steps, "biases": biases}

    return make


def _int8(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
    return {"codes": words(rng, outs, ins, kind=np.int8), "scales": scales(rng, outs, 1, top=127)}


def _nibble(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
    return {"weight": words(rng, outs, ins // 8), "scales": scales(rng, outs, ins // 32, top=8)}


def _milo(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
    """Groups of 128 and a compensator of rank 16, the most that it may have."""
    steps = scales(rng, outs, ins // 128, top=7)
    found = {"weight": words(rng, outs, ins * 3 // 32), "scales": steps, "biases": (-3.5 * steps).astype("f2")}
    for side, length in (("left", outs), ("right", ins)):
        found[side] = words(rng, 16, length // 2, kind=np.uint8)
        found[f"{side}_scales"] = scales(rng, 16, length // 64, top=8)
    return found


def _coded(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
    """Two codebooks of 256 words for vectors of 8, as AQLM and VPTQ store them."""
    return {
        "codes": words(rng, outs * ins // 4, kind=np.uint8),
        "codebooks": rng.standard_normal((2, 256, 8), np.float32).astype(np.float16),
        "scales": scales(rng, outs, top=2, kind=ml_dtypes.bfloat16),
        "shape": np.array([outs, ins], np.int32),
    }


def _quip(rng: np.random.Generator, outs: int, ins: int) -> Arrays:
    return {
        "codes": words(rng, outs, ins // 8, kind=np.uint16),
        "output_signs": words(rng, outs // 8, kind=np.uint8),
        "input_signs": words(rng, ins // 8, kind=np.uint8),
        "scale": np.array([DEVIATION], np.float32),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A method of a width, and what draws its arrays."""

    codec: Codec
    make: Make


FORMS: Mapping[tuple[str, int], Form] = {
    ("rtn", 8): Form(codec=Rtn(bits=8, group_size=64), make=_rtn(8)),
    ("rtn", 4): Form(codec=Rtn(bits=4, group_size=64), make=_rtn(4)),
    ("rtn", 3): Form(codec=Rtn(bits=3, group_size=64), make=_rtn(3)),
    ("rtn", 2): Form(codec=Rtn(bits=2, group_size=64), make=_rtn(2)),
    ("int8", 8): Form(codec=Int8(), make=_int8),
    ("nibble", 4): Form(codec=Nibble(), make=_nibble),
    ("milo", 3): Form(codec=Milo(bits=3), make=_milo),
    ("aqlm", 2): Form(codec=Aqlm(bits=2), make=_coded),
    ("vptq", 2): Form(codec=Vptq(bits=2), make=_coded),
    ("quip", 2): Form(codec=Quip(bits=2), make=_quip),
}


def encoded(form: Form, rng: np.random.Generator, shape: Shape) -> Encoding:
    """A matrix in this form, with random codes."""
    return Encoding(codec=form.codec, arrays=form.make(rng, *shape), shape=shape)


class RandomWeights:
    """Weights of a level as an engine takes them: `EncodedWeights`. Dense ones are drawn on the device, as tensors; for
    an engine of another library (`device` None) they are numpy's.
    """

    def __init__(self, config: Mapping[str, Any], level: str, device: str | None, seed: int = 0) -> None:
        self.config, self.level, self.recipe_id = dict(config), level, level
        self._recipe, self._shapes = recipe(level), parameters(config)
        self._device, self._seed = device, seed
        self._places = {name: place for place, name in enumerate(self._shapes)}

    @property
    def names(self) -> list[str]:
        """Every parameter's path."""
        return list(self._shapes)

    def dense(self, name: str) -> "torch.Tensor | np.ndarray[Any, Any]":
        """Decoded, of what the level encodes; else in BF16, as a published model has them."""
        if (encoding := self.encoding(name)) is not None:
            return encoding.dense()
        if self._device is not None:
            return self._on_device(name, self._device)
        shape = self._shapes[name]
        rng = np.random.default_rng([self._seed, self._places[name]])
        drawn = np.ones(shape) if len(shape) == 1 else DEVIATION * rng.standard_normal(shape, np.float32)
        return drawn.astype(ml_dtypes.bfloat16)

    def _on_device(self, name: str, device: str) -> "torch.Tensor":
        import torch

        shape = self._shapes[name]
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16, device=device)
        generator = torch.Generator(device).manual_seed(self._seed + self._places[name])
        drawn = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16)
        return drawn.mul_(DEVIATION)

    def inputs(self, name: str) -> None:
        """No level's default does anything to them."""
        return

    def encoding(self, name: str) -> Encoding | None:
        """By the level's recipe."""
        shape = self._shapes[name]
        layer = int(name.split(".")[2]) if ".layers." in name else None
        part = self._part(name, layer)
        if len(shape) == 1 or part.quantizer == "identity":
            return None
        form = FORMS[part.quantizer, int(part.parameters["bits"])]
        return encoded(form, np.random.default_rng([self._seed, self._places[name]]), (shape[0], shape[1]))

    def _part(self, name: str, layer: int | None) -> Part:
        return self._recipe.part_for(name, layer, self.config["num_hidden_layers"])


def matrices(config: Mapping[str, Any]) -> Iterator[Shape]:
    """The shapes of a decoder layer's matrices and of the head, each once."""
    shapes = [shape for name, shape in parameters(config).items() if ".layers.0." in name or name == "lm_head.weight"]
    yield from dict.fromkeys((shape[0], shape[1]) for shape in shapes if len(shape) == 2)
