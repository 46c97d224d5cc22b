"""A key-value cache that is filled token by token, and rounds anew at every token whatever is in a stage by then.

The slow definition that walks and answers with a quantized cache are held to: Transformers' own models, in float64, are
decoded with it one token at a time, and it asks a form for nothing but its stages and their roundings.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import AttentionInterface, AttentionMaskInterface  # noqa: E402
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer  # noqa: E402
from transformers.masking_utils import eager_mask  # noqa: E402

from pytest_quantbench.quantizers.kv.protocol import rotation  # noqa: E402

LOOKING = "slow-cache"  # Transformers' name of an attention whose queries the cache gets to see
_layers = {}  # of the cache that is being filled


def _looking(module, query, key, value, *args, **named):
    layer = next(each for each in _layers.values() if each.raw is not None and each.raw[0] is key)
    if layer is _layers[module.layer_idx]:  # a later one that shares the keys has no say in how they are held
        layer.queries = query if layer.queries is None else torch.cat([layer.queries, query], dim=2)
    key, value = (layer.seen(part, each) for part, each in zip(("keys", "values"), (key, value), strict=True))
    plain = sys.modules[type(module).__module__].eager_attention_forward
    return plain(module, query, key, value, *args, **named)


AttentionInterface.register(LOOKING, _looking)
AttentionMaskInterface.register(LOOKING, eager_mask)


class SlowLayer(CacheLayerMixin):
    """One layer's keys and values of one text, as computed."""

    is_sliding = False

    def __init__(self, method):
        super().__init__()
        self.method, self.raw, self.queries = method, None, None

    def lazy_initialization(self, key_states, value_states):
        pass

    def update(self, key_states, value_states, *args, **kwargs):
        own = key_states, value_states
        self.raw = own if self.raw is None else [torch.cat(pair, dim=2) for pair in zip(self.raw, own, strict=True)]
        if any(stage.rounding and stage.rounding.looks for stage in self.method.form(key_states.shape[-1]).keys):
            return self.raw
        return tuple(self.seen(part, each) for part, each in zip(("keys", "values"), self.raw, strict=True))

    def seen(self, part, raw):
        """(1, heads, tokens, d) → what the last of the tokens sees of them."""
        form, found, stored = self.method.form(raw.shape[-1]), raw.double().clone(), raw.shape[2]
        turn = torch.from_numpy(rotation(raw.shape[-1])).double() if form.rotates and part == "keys" else None
        for stage in form.stages(part):
            there = max(0, stored - stage.age) // stage.chunk * stage.chunk
            if not there:
                continue
            numbers = raw[:, :, :there].double()
            if stage.rounding is not None:
                turned = numbers if turn is None else numbers @ turn
                looked = {}
                if stage.rounding.looks:
                    queries = self.queries[0, :, :there].float().numpy()
                    keys = self.raw[0][0, :, :there].float().numpy()
                    around = rotation(keys.shape[-1]) if form.rotates else np.eye(keys.shape[-1], dtype=np.float32)
                    looked = {"queries": queries @ around, "keys": keys @ around}
                back = torch.from_numpy(stage.rounding.rounded(turned[0].float().numpy(), **looked)).double()[None]
                numbers = back if turn is None else back @ turn.T
            found[:, :, :there] = numbers
        found[:, :, : form.sinks] = raw[:, :, : form.sinks]
        return found.to(raw.dtype)

    def get_mask_sizes(self, query_length):
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self):
        return 0 if self.raw is None else self.raw[0].shape[2]

    def get_max_length(self):
        return -1


def slow_losses(model, method, tokens, others=()):
    """(tokens,) ids → (tokens − 1,) negative log-likelihoods in nats of each behind those before it. `others`: layers
    without attention, which keep what Transformers has them keep.
    """
    if not any(path.endswith("experts") for path, _ in model.named_modules()):  # their products know no float64
        model = model.double()
    cache = Cache(layers=[SlowLayer(method) for _ in range(model.config.get_text_config().num_hidden_layers)])
    for number in others:
        cache.layers[number] = LinearAttentionLayer()
    _layers.update(enumerate(cache.layers))
    found = []
    with torch.inference_mode():
        for place, token in enumerate(tokens[:-1]):
            logits = model(
                input_ids=torch.tensor([[int(token)]]),
                position_ids=torch.tensor([[place]]),
                cache=cache,
                use_cache=True,
            ).logits[0, -1]
            found.append(-logits.log_softmax(-1)[int(tokens[place + 1])].item())
    return np.array(found)
