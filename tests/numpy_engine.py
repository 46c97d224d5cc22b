"""An engine in numpy for Llamas and nothing else, as a user might write one: what conformance finds nothing wrong with.

Its parameters have the published names. Everything that `bad_engines` gets wrong is a method of its own here.
"""

import hashlib
import time
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from pytest_quantbench.engines import answers
from pytest_quantbench.engines.batches import Places, behind_each_other
from pytest_quantbench.engines.held_caches import HoldsCaches, given_back, held_caches
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.engines.parameters import Capacity, Origin, Parameter
from pytest_quantbench.engines.protocol import Cached, Rounded
from pytest_quantbench.engines.resident import Generation, Timed, TimedBatch
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import ModelError, WeightError

MATRICES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj"}
MATRICES |= {name: f"mlp.{name}_proj" for name in ("gate", "up", "down")}
SHARED = {"k": "q", "v": "q", "up": "gate"}  # whose inputs are the same


class Opened:
    """An `Architecture`: all tensors, under the names that they have in the file."""

    def __init__(self, checkpoint, engine):
        self.checkpoint, self.engine, self.config = checkpoint, engine, checkpoint.config
        if self.config["model_type"] not in ("llama", "mistral"):
            raise ModelError(f"The numpy engine has no {self.config['model_type']!r}, only llama.")
        self._held = {name: each for file in checkpoint.files for name, each in load_file(file).items()}
        self.layers = [f"model.layers.{i}." for i in range(self.config["num_hidden_layers"])]
        self.names = ["model.embed_tokens.weight", "model.norm.weight"]
        self.names += [] if self.config["tie_word_embeddings"] else ["lm_head.weight"]
        norms = ("input_layernorm", "post_attention_layernorm")
        self.names += [f"{each}{name}.weight" for each in self.layers for name in (*MATRICES.values(), *norms)]
        self._check()
        self.parameters = [self._parameter(name) for name in self.names]
        self.dtype = str(self._held["model.norm.weight"].dtype)

    def _check(self):
        hidden, inner = self.config["hidden_size"], self.config["intermediate_size"]
        for name in self.names:
            if name not in self._held:
                raise ModelError(f"{self.checkpoint.directory} lacks {name}.")
            found = self._held[name].shape
            if ("gate_proj" in name or "up_proj" in name) and found != (inner, hidden):
                raise ModelError(f"{name} has shape {found}, config.json says {(inner, hidden)}.")

    def _parameter(self, name):
        layer = next((i for i, prefix in enumerate(self.layers) if name.startswith(prefix)), None)
        kind = "embedding" if "embed" in name else "other" if "norm" in name else "linear"
        return Parameter(path=name, shape=self._held[name].shape, kind=kind, owner="Linear", layer=layer)

    def tensor(self, path):
        return self._held[path]

    def array(self, path):
        if not np.isfinite(self._held[path].astype(np.float32)).all():
            raise WeightError(f"{path} has NaN or infinite values: not a usable model.")
        return self._held[path]

    def origin(self, path):
        return Origin(form="same", sources=(path,))

    def made(self, path, tensors):
        return tensors[path]

    def let_go(self):
        pass


@dataclass
class State:
    """A batch on a track: hidden states (rows, length, hidden), and for each layer the keys and values."""

    states: np.ndarray
    cache: list


class Caches(HoldsCaches):
    """What layers have stored, and which queries have seen a token in few bits."""

    def __init__(self, models):
        self._held = held_caches(models)

    def saw(self, layer, track, keys, values, queries, batch):
        if self._held[track] is not None:
            shape = keys.shape[1], keys.shape[-1], values.shape[-1], 0
            self._held[track].saw(layer, shape, queries, batch)


class NumpyWalk:
    """A `Walk`."""

    def __init__(self, engine, models):
        self._engine, self.proof = engine, engine.prove(models[0])
        self._weights = [each.weights if isinstance(each, Rounded | Cached) else each for each in models]
        self._methods = [each.method if isinstance(each, Cached) else None for each in models]
        self._rounds = [isinstance(each, Rounded) for each in models]
        self._held, self._failed = [{} for _ in models], {}
        self._caches = Caches(models)
        self.vocabulary = self._weights[0].config["vocab_size"]

    def __len__(self):
        return self._weights[0].config["num_hidden_layers"]

    def run(self, batches, what):
        self.begin(batches)
        for index in range(len(self)):
            self.advance(index)

    def begin(self, batches):
        self.batches = behind_each_other(batches)
        self._places = Places.of(self.batches)
        self._caches.batches = self.batches
        for track, weights in enumerate(self._weights):
            outside = [name for name in weights.names if not name.startswith("model.layers.")]
            self._held[track] = {name: self._engine.digest(name, self._weight(track, name)) for name in outside}
        embeddings = [self._weight(track, "model.embed_tokens.weight") for track in range(len(self._weights))]
        self._states = [[State(each[batch.tokens], []) for batch in self.batches] for each in embeddings]

    def observe(self, index, inputs):
        self._through(index, 0, inputs)

    def advance(self, index):
        for track in range(len(self._weights)):
            if track in self._failed:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._through(index, track, None)
            for state, (after, kept) in zip(self._states[track], found, strict=True):
                state.states = self._engine.kept(after, track, self._rounds[track])
                state.cache.append(kept)
            if not all(np.isfinite(state.states).all() for state in self._states[track]):
                self._engine.failed(self._failed, track, index)
        if len(self._failed) == len(self._weights):
            raise next(iter(self._failed.values()))

    def _through(self, index, track, inputs):
        """For each batch its hidden states behind the layer, and the keys, values and queries that its branches go on
        from.
        """
        kept, found = [], []
        for batch, places, state in zip(self.batches, self._places, self._states[track], strict=True):
            above = None if batch.parent is None else [each[list(batch.rows)] for each in kept[batch.parent]]
            after, own = self._layer(index, track, state.states, places, above, inputs)
            kept.append(own)
            found.append((after, own))
        return found

    def _layer(self, index, track, states, places, above, inputs):
        engine, config, prefix = self._engine, self._weights[track].config, f"model.layers.{index}."

        def product(name, entered):
            path = f"{prefix}{MATRICES[name]}"
            if inputs is not None:
                engine.show(inputs, path, SHARED.get(name) and f"{prefix}{MATRICES[SHARED[name]]}", entered)
            rule = self._weights[track].inputs(f"{path}.weight")
            entered = engine.ruled(rule, entered)
            return entered @ self._weight(track, f"{path}.weight").T

        def norm(name, values):
            return engine.norm(values, self._weight(track, f"{prefix}{name}.weight"), config["rms_norm_eps"])

        def heads(values, count):
            return values.reshape(*values.shape[:2], count, -1).transpose(0, 2, 1, 3)

        many, few = config["num_attention_heads"], config["num_key_value_heads"]
        entered = norm("input_layernorm", states)
        length = states.shape[1]
        own = engine.positions(places, length)
        query = engine.turned(heads(product("q", entered), many), own, config)
        key, value = (heads(product(name, entered), few) for name in "kv")
        key = engine.turned(key, own, config)
        asked = query
        if above is not None:
            pairs = zip(above, (key, value, asked), strict=True)
            key, value, asked = (np.concatenate(pair, axis=2) for pair in pairs)
        held = engine.held(self._methods[track], key, value, asked, places)
        self._caches.saw(index, track, key, value, places.keys[:, -length:], self._places.index(places))
        scores = np.zeros((*query.shape[:3], key.shape[2]), np.float32)
        for numbers, seen in held("keys", length):
            product_of_both = np.einsum("rhqd,rhkd->rhqk", query, engine.shared(numbers, many // few))
            scores += np.where(seen, product_of_both, 0) * engine.scale(query.shape[-1])
        scores = np.where(engine.visible(places, length, config.get("sliding_window")), scores, -np.inf)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        shares, mixed = powers / powers.sum(-1, keepdims=True), np.zeros_like(query)
        for numbers, seen in held("values", length):
            mixed += np.where(seen, shares, 0) @ engine.shared(numbers, many // few)
        states = states + product("o", mixed.transpose(0, 2, 1, 3).reshape(*states.shape[:2], -1))
        entered = norm("post_attention_layernorm", states)
        gate, up = product("gate", entered), product("up", entered)
        return states + product("down", engine.gated(gate, up)), (key, value, asked)

    def _weight(self, track, name):
        values = np.asarray(self._weights[track].dense(name)).astype(np.float32)
        self._held[track][name] = self._engine.digest(name, values)
        return values

    def logits(self, batch, positions, track=0):
        states = self._asked(track)[batch].states[:, positions]
        return self._head(states.reshape(-1, states.shape[-1]), track)

    def logits_at(self, batch, rows, places, track=0):
        return self._head(self._asked(track)[batch].states[rows, places], track)

    def _asked(self, track):
        if track in self._failed:
            raise self._failed[track]
        return self._states[track]

    def _head(self, states, track):
        config = self._weights[track].config
        normed = self._engine.norm(states, self._weight(track, "model.norm.weight"), config["rms_norm_eps"])
        head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
        return self._engine.told(normed @ self._weight(track, head).T)

    def cache_shapes(self, track=0):
        return self._caches.cache_shapes(track)

    def engaged(self, batch, track=0):
        return self._engine.counted(self, batch, track)

    def weights_sha256(self, track=0):
        return self._engine.hashed(self._held[track])

    def let_go(self):
        self._states = []


class Resident:
    """A model that computes everything anew for each token."""

    activations, dense_layers, step, kernels = "float32", 0, "module by module", {"numpy": 1}

    def __init__(self, engine, model, cache=None):
        self._engine, self._model, self._cache = engine, model, cache
        self.bytes_per_token = sum(model.dense(name).astype(np.float32).nbytes for name in model.names)

    def _behind(self, tokens):
        walk = self._engine.walk([self._model if self._cache is None else Cached(self._model, self._cache)])
        walk.run([np.array([tokens])], "")
        self._held = walk._caches._held[0]
        return walk.logits(0, slice(len(tokens) - 1, None))

    def _next(self, tokens):
        return int(self._behind(tokens).likeliest()[0])

    def _drawn(self, tokens, sampler):
        every = np.arange(self._model.config["vocab_size"])
        return int(sampler(-self._behind(tokens).nll(every)[None])[0])

    def generate(self, tokenizer, prompts, *, stops, new_tokens, what, end_tokens=None, sampler=None):
        limits = [new_tokens] * len(prompts) if isinstance(new_tokens, int) else new_tokens
        ends = {tokenizer.eos_token_id} if end_tokens is None else end_tokens
        found = [self._one(tokenizer, *each, ends) for each in zip(prompts, stops, limits, strict=True)]
        return found if self._cache is None else self._engine.engaged(found, prompts, self._held)

    def _one(self, tokenizer, prompt, stops, limit, ends):
        tokens = []
        while len(tokens) < limit:
            token = self._next([*prompt, *tokens])
            if token in ends:
                return Generation(text=tokenizer.decode(tokens), tokens=tuple(tokens), ended="eos")
            tokens.append(token)
            text = tokenizer.decode(tokens)
            if found := [text.index(stop) for stop in stops if stop in text]:
                return Generation(text=text[: min(found)], tokens=tuple(tokens), ended="stop")
        return Generation(text=tokenizer.decode(tokens), tokens=tuple(tokens), ended="length")

    def ready(self, tokens):
        pass

    def timed(self, prompt, new_tokens):
        tokens, seconds, began = [], [], time.perf_counter()
        for _ in range(new_tokens):
            tokens.append(self._next([*prompt, *tokens]))
            seconds.append(time.perf_counter() - began)
        return Timed(tokens=tuple(tokens), seconds=tuple(seconds))

    def timed_batch(self, prompts, new_tokens, sampler=None):
        texts, seconds, began = [list(prompt) for prompt in prompts], [], time.perf_counter()
        for _ in range(new_tokens):
            for text in texts:
                text.append(self._next(text) if sampler is None else self._drawn(text, sampler))
            seconds.append(time.perf_counter() - began)
        return TimedBatch(tokens=tuple(tuple(text[-new_tokens:]) for text in texts), seconds=tuple(seconds))

    def timed_requests(self, prompts, new_tokens):
        return tuple(self.timed(prompt, new_tokens) for prompt in prompts)

    @property
    def cache_bytes_per_token(self):
        config = self._model.config
        width = config["hidden_size"] // config["num_attention_heads"]
        return 2 * 4 * config["num_hidden_layers"] * config["num_key_value_heads"] * width

    def batch_bytes(self, rows, tokens):
        return rows * tokens * self.cache_bytes_per_token

    def sampler(self, seed, temperature=1.0):
        random = np.random.default_rng(seed)
        return lambda given: (given / temperature + random.gumbel(size=given.shape)).argmax(-1)


class NumpyEngine:
    """An `Engine`."""

    name, packages, version, backend = "numpy", ("numpy",), "numpy 1", "cpu"
    can = frozenset({"walk", "calibrate", "resident", "kv", "batches"})
    activations, judges_speed, paths_are_mlx_lms = "float32", False, False
    threads, device_name = 1, ""
    opens, walks, residents = Opened, NumpyWalk, Resident

    def __init__(self, *, activations="float32"):
        assert activations == "float32"

    def open(self, checkpoint):
        return self.opens(checkpoint, self)

    def capacity(self, config):
        return Capacity(vocabulary=config["vocab_size"], positions=config["max_position_embeddings"])

    def prove(self, model):
        return Proof(architecture="llama")

    def walk(self, models, *, memory_bytes=2**30):
        return self.walks(self, models)

    def load(self, model, use, cache=None):
        return self.residents(self, model, cache)

    def decode(self, encoding):
        return encoding.dense()

    def to_host(self, array):
        return array

    def outputs(self, layer, decode, inputs):
        given = inputs if layer.input_rule is None else layer.input_rule.rounded(inputs)
        return given @ decode().astype(np.float32).T

    def matrix(self, layer):
        return None

    def save(self, file, arrays):
        save_file(dict(arrays), file)

    def answers_bytes(self, values):
        return 4 * values

    def reset_peak(self):
        pass

    def peak_bytes(self):
        return 0

    def reserved_bytes(self):
        return None

    def products_per_second(self, side, repeats):
        matrix, began = np.ones((side, side), np.float32), time.perf_counter()
        matrix @ matrix
        return 1 / (time.perf_counter() - began)

    def read_bytes_per_second(self, held):
        numbers, began = np.ones(held // 8), time.perf_counter()
        numbers.sum()
        return numbers.nbytes / (time.perf_counter() - began)

    def free_bytes(self):
        return 2**33

    def release(self):
        pass

    # what its walk is made of
    def norm(self, values, weight, eps):
        return values / np.sqrt(np.square(values).mean(-1, keepdims=True) + np.float32(eps)) * weight

    def positions(self, places, length):
        return places.starts[:, None] + np.arange(length)

    def turned(self, heads, positions, config):
        half = heads.shape[-1] // 2
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]  # as Transformers 4 and 5 have it
        angles = positions[:, None, :, None] * theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        first, second = heads[..., :half], heads[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def scale(self, size):
        return np.float32(size**-0.5)

    def shared(self, heads, times):
        return np.repeat(heads, times, axis=1)

    def visible(self, places, length, window):
        return places.visible(length, window)

    def held(self, method, keys, values, queries, places):
        """What gives keys or values in every form, and which queries see which tokens so: (rows, 1, queries, keys)."""
        own = {"keys": keys, "values": values}

        def forms(part, length):
            if method is None:
                return [(own[part], True)]
            form = method.form(own[part].shape[-1])
            stages = range(len(form.stages(part)))
            reached = np.stack([self.reached(form, part, each[-length:], each) for each in places.keys])[:, None]
            found = [self.given_back(form, part, i, own[part], places.keys, queries, keys) for i in stages]
            return [(own[part], reached == -1)] + [(each, reached == i) for i, each in enumerate(found)]

        return forms

    def engaged(self, found, prompts, held):
        return answers.engaged(found, prompts, held)

    def counted(self, walk, batch, track):
        return walk._caches.engaged(batch, track)

    def reached(self, form, part, queries, tokens):
        return form.reached(part, queries, tokens)

    def given_back(self, form, part, stage, numbers, positions, queries, keys):
        return given_back(form, part, stage, numbers, positions, queries, keys)

    def gated(self, gate, up):
        return gate / (1 + np.exp(-gate)) * up

    def ruled(self, rule, entered):
        return entered if rule is None else rule.rounded(entered)

    def kept(self, states, track, rounds):
        return states.astype(ml_dtypes.bfloat16).astype(np.float32) if rounds else states

    def failed(self, failed, track, index):
        failed[track] = WeightError(f"Decoder layer {index} gives values that are no numbers.")

    def show(self, inputs, path, owner, entered):
        rows = entered.reshape(-1, entered.shape[-1])
        if owner is not None:
            inputs.share(path, owner)
        else:
            inputs.add(path, rows, lambda each: each.T @ each)

    def told(self, logits):
        return HostLogits(logits)

    def digest(self, name, values):
        return hashlib.sha256(f"{name}{values.shape}".encode() + values.tobytes()).hexdigest()

    def hashed(self, held):
        return hashlib.sha256("".join(f"{name}={value};" for name, value in sorted(held.items())).encode()).hexdigest()
