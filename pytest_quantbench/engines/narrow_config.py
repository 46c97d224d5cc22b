"""A config.json made small: the same architecture with narrow layers, few words, and few layers of every kind it has.

Keys are known by their names, whatever the architecture: sizes follow the number of heads and their width, windows get
so short that they matter, lists with an entry per layer are cut. What comes out is tried, so a rule that does not fit
an architecture shows; the next way to make it small is then tried, and the last ones keep what is delicate.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.engines.protocol import Config

HEAD, WINDOW, EXPERTS, VOCABULARY, FEWEST = 16, 8, 4, 128, 4
LAYERS = re.compile(r"num_hidden_layers|n_layers?|num_layers|num_transformer_layers")
HEADS = re.compile(r"(?P<of>.*?)(num|n)_((attention|query|v|k|value|key|kv|key_value)_)*(heads?|groups)")
HEAD_DIM = re.compile(r".*(head_dim|head_size|_channels)(_.*)?")
HIDDEN = re.compile(r"hidden_size|n_embd|d_model|hidden_dim|model_dim|dim")
WINDOWS = re.compile(r".*sliding_window(_size)?|.*window_size|attention_chunk_size")
MANY_EXPERTS = re.compile(r"(num|n)_(.*_)?experts?|moe_num_experts")
CHOSEN = re.compile(r".*experts_per_to.*|.*top_?k(_experts)?|moe_k")
OF_GROUPS = {"n_group": 2, "num_expert_group": 2, "topk_group": 1, "n_shared_head": 2}
SIZES = re.compile(r".*(size|dim|width|embd|inner|rank)(_.*)?")
ROTATED = re.compile(r".*(_factor|mrope_section)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """How small: `layers` (None: all), `head` is the width of a head (None: as it is), `narrow`: sizes at all.
    `words`: of the vocabulary.
    """

    layers: int | None
    words: int
    head: int | None
    narrow: bool = True


def smaller(config: Config, found: Sequence[str], words: int) -> Iterator[Config]:
    """This config made small, in ways from the smallest to the most careful. `found`: the kind of each layer."""
    fewest = max(found.index(kind) for kind in found) + 1
    few = min(len(found), max(fewest, FEWEST))
    for layers in dict.fromkeys((few, len(found))):
        for head in (HEAD, None):
            yield small(config, len(found), Measures(layers=layers, words=words, head=head))
    yield small(config, len(found), Measures(layers=few, words=words, head=None, narrow=False))
    yield config


def small(config: Config, layers: int, to: Measures) -> dict[str, Any]:
    """The config with these measures. `layers`: how many it has now."""
    width = _Widths(config, to)
    made: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            if value and all(name.isdecimal() for name in value):  # by layer
                value = {name: own for name, own in value.items() if int(name) < (to.layers or layers)}
            inner = small(value, layers, to) if any(map(HIDDEN.fullmatch, value)) else _nested(value, layers, to, width)
            made[key] = inner
        else:
            made[key] = _value(key, value, layers, to, width)
    return made


def _nested(table: Mapping[str, Any], layers: int, to: Measures, width: "_Widths") -> dict[str, Any]:
    """A table within a config that has no hidden size of its own, such as what belongs to rotary positions."""
    return {
        key: _nested(value, layers, to, width) if isinstance(value, Mapping) else _value(key, value, layers, to, width)
        for key, value in table.items()
    }


def _value(key: str, value: Any, layers: int, to: Measures, width: "_Widths") -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, list):
        return _listed(key, value, layers, to, width)
    if not isinstance(value, int):
        return value
    fewer = layers - (to.layers or layers)
    if LAYERS.fullmatch(key) and value == layers:
        return value - fewer
    if key in ("num_kv_shared_layers", "num_kv_reuse_layers") and value:  # counted from the end
        return max(1, value - fewer)
    return width.of(key, value) if to.narrow else value


def _listed(key: str, value: list[Any], layers: int, to: Measures, width: "_Widths") -> list[Any]:
    fewest = to.layers or layers
    if len(value) == layers:
        return [width.of(key, item) if type(item) is int and to.narrow else item for item in value[:fewest]]
    if re.fullmatch(r".*(idxs|layers|indices|_ids)", key) and all(type(item) is int for item in value):
        return [item for item in value if item < fewest] if "eos" not in key else value
    if ROTATED.fullmatch(key) and to.narrow and width.head != width.old_head:
        if all(type(item) is int for item in value):  # sections, whose sum is half a head
            return [max(1, item * width.head // width.old_head) for item in value]
        return value[: max(1, len(value) * width.head // width.old_head)]
    return value


class _Widths:
    """The new sizes of one table of a config."""

    def __init__(self, config: Config, to: Measures) -> None:
        self.counts: dict[str, int] = {}  # the fewest heads of a group of keys, but not a single one
        numbers = {key: value for key, value in config.items() if type(value) is int}
        for key, value in numbers.items():
            if (found := HEADS.fullmatch(key)) and value > 1:
                group = found["of"]
                self.counts[group] = min(value, self.counts.get(group, value))
        heads = [key for key in ("num_attention_heads", "n_head", "n_heads", "num_heads") if key in numbers]
        old_heads = numbers[heads[0]] if heads else 4
        hidden = next((value for key, value in numbers.items() if HIDDEN.fullmatch(key)), 64)
        self.head_dim = numbers.get("head_dim")
        self.old_head = numbers.get("head_dim", max(1, hidden // old_heads))
        self.head = self.old_head if to.head is None else min(to.head, self.old_head)
        new_heads = self._heads(heads[0], old_heads) if heads else 4
        self.old_hidden, self.hidden = hidden, max(2 * HEAD, new_heads * self.head)
        self._to = to

    def _heads(self, key: str, value: int) -> int:
        found = HEADS.fullmatch(key)
        least = self.counts.get(found["of"] if found else "", value)
        return value if value <= 2 else 2 if value <= least else 4

    def of(self, key: str, value: int) -> int:
        """The new size that stands under a key."""
        table: tuple[tuple[re.Pattern[str], int], ...] = (
            (HIDDEN, self.hidden),
            (HEADS, self._heads(key, value)),
            (WINDOWS, min(value, WINDOW)),
            (MANY_EXPERTS, min(value, EXPERTS)),
            (CHOSEN, min(value, 2)),
            (re.compile(r"(.*_)?vocab(_size)?(_.*)?"), min(value, self._to.words)),
            (re.compile(r".*rope_head_dim|rotary_dim"), self._rotated(value)),
            (HEAD_DIM, value if self._to.head is None else min(value, self._to.head)),
            (re.compile(r".*rank(_dim)?"), min(value, HEAD)),
            (re.compile(r".*(kernel|conv|state).*"), min(value, HEAD)),
            (SIZES, self._scaled(value)),
        )
        if key in OF_GROUPS:
            return min(value, OF_GROUPS[key])
        return next((new for pattern, new in table if pattern.fullmatch(key)), value)

    def _rotated(self, value: int) -> int:
        """What of a head is turned: half of it, or all, as DeepSeek's files call it."""
        return min(value, self.head if value == self.head_dim else self.head // 2)

    def _scaled(self, value: int) -> int:
        """In proportion to the hidden size where it is a multiple of it, twice the hidden size otherwise."""
        if value * self.hidden % self.old_hidden == 0:
            return max(1, value * self.hidden // self.old_hidden)
        return min(value, 2 * self.hidden)


def kinds_of(layers: Iterable[Any]) -> list[str]:
    """What each decoder layer is made of: its modules' classes and their switches, but not their sizes."""
    return [
        ";".join(f"{path}:{type(module).__name__}{_switches(module)}" for path, module in layer.named_modules())
        for layer in layers
    ]


def _switches(module: Any) -> str:
    told = {key: value for key, value in vars(module).items() if isinstance(value, bool | str | None)}
    return "" if not told else str(sorted((key, value) for key, value in told.items() if not key.startswith("_")))
