"""A Llama's forward pass in numpy, in float64 and as slow as it is plain: what an engine's walk is held to.

One text at a time, without a cache, without batches, and nothing of it is any engine's. As H. Touvron et al., LLaMA
(2023, arXiv:2302.13971) describe it: RMS norms in front of attention and of the gated product, rotary positions (J. Su
et al., RoFormer, 2021, arXiv:2104.09864) with a head's first half turned against its second, as published files have
it; keys and values shared by groups of heads; and, where the config says so, a window of the last so many tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Tensors = Mapping[str, Any]  # by the names of published files: (out, in) matrices, (hidden,) norms
Seen = dict[str, Doubles]  # by a matrix's published name: its inputs (tokens, in)
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


class ReferenceLlama:
    """A model of these tensors. `rule` is done to the inputs of every matrix in the decoder layers."""

    def __init__(self, config: Mapping[str, Any], tensors: Tensors, rule: Any = None) -> None:
        self._config, self._rule = config, rule
        self._tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}

    def logits(self, tokens: Sequence[int], seen: Seen | None = None) -> Doubles:
        """(tokens, vocabulary). Into `seen` go the inputs of every matrix of the decoder layers."""
        states = self._tensors[EMBEDDINGS][np.asarray(tokens)]
        for layer in range(self._config["num_hidden_layers"]):
            states = self._layer(f"model.layers.{layer}.", states, {} if seen is None else seen)
        head = self._tensors[EMBEDDINGS if self._config["tie_word_embeddings"] else HEAD]
        found: Doubles = self._norm("model.norm.weight", states) @ head.T
        return found

    def nll(self, tokens: Sequence[int]) -> Doubles:
        """(tokens − 1,) negative log-likelihoods in nats, of every token but the first."""
        return nll_of(self.logits(tokens)[:-1], np.asarray(tokens)[1:])

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """So many tokens, the likeliest one again and again, everything computed anew for each."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    def _layer(self, prefix: str, states: Doubles, seen: Seen) -> Doubles:
        states = states + self._attention(
            f"{prefix}self_attn.", self._norm(f"{prefix}input_layernorm.weight", states), seen
        )
        entered = self._norm(f"{prefix}post_attention_layernorm.weight", states)
        gate, up = (self._product(f"{prefix}mlp.{name}_proj.weight", entered, seen) for name in ("gate", "up"))
        return states + self._product(f"{prefix}mlp.down_proj.weight", gate / (1 + np.exp(-gate)) * up, seen)

    def _attention(self, prefix: str, entered: Doubles, seen: Seen) -> Doubles:
        heads, shared = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        query, key, value = (self._heads(prefix, name, entered, seen) for name in "qkv")  # (heads, tokens, head size)
        query, key = self._turned(query), self._turned(key)
        key, value = (np.repeat(each, heads // shared, axis=0) for each in (key, value))
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        scores = np.where(self._visible(len(entered)), scores, -np.inf)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = powers / powers.sum(-1, keepdims=True) @ value
        return self._product(f"{prefix}o_proj.weight", mixed.transpose(1, 0, 2).reshape(len(entered), -1), seen)

    def _heads(self, prefix: str, name: str, entered: Doubles, seen: Seen) -> Doubles:
        count = self._config["num_attention_heads" if name == "q" else "num_key_value_heads"]
        made = self._product(f"{prefix}{name}_proj.weight", entered, seen)
        return made.reshape(len(entered), count, -1).transpose(1, 0, 2)

    def _turned(self, heads: Doubles) -> Doubles:
        """Rotary positions: pair i of a head, its values i and half + i, is turned by position × θ^(−2i / size)."""
        (_, tokens, size), half = heads.shape, heads.shape[-1] // 2
        angles = np.arange(tokens)[:, None] * self._config["rope_theta"] ** (-2 * np.arange(half) / size)
        first, second = heads[..., :half], heads[..., half:]
        return np.concatenate(
            [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)],
            axis=-1,
        )

    def _visible(self, tokens: int) -> NDArray[np.bool_]:
        """(tokens, tokens): which keys a token sees."""
        seeing, seen = np.arange(tokens)[:, None], np.arange(tokens)
        window = self._config.get("sliding_window") or tokens
        visible: NDArray[np.bool_] = (seen <= seeing) & (seen > seeing - window)
        return visible

    def _norm(self, name: str, states: Doubles) -> Doubles:
        spread = np.square(states).mean(-1, keepdims=True) + self._config["rms_norm_eps"]
        normed: Doubles = states / np.sqrt(spread) * self._tensors[name]
        return normed

    def _product(self, name: str, entered: Doubles, seen: Seen) -> Doubles:
        if self._rule is not None:
            entered = self._rule.rounded(entered.astype(np.float32)).astype(np.float64)
        seen[name] = entered
        product: Doubles = entered @ self._tensors[name].T
        return product


def nll_of(logits: Doubles, tokens: NDArray[np.integer]) -> Doubles:
    """(n,) negative log-likelihoods in nats of one token at each position of (n, vocabulary) logits."""
    largest = logits.max(-1)
    sums: Doubles = largest + np.log(np.exp(logits - largest[:, None]).sum(-1))
    found: Doubles = sums - logits[np.arange(len(logits)), tokens]
    return found
