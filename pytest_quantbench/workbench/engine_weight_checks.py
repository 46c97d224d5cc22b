"""What an engine has to keep to as it opens a checkpoint, decodes, shows inputs, and refuses what it cannot use."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.protocol import Ability, Engine, InputSink, Rows, Square
from pytest_quantbench.engines.registry import lacking
from pytest_quantbench.errors import ModelError, QuantbenchError, WeightError
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.workbench.engine_models import VOCABULARY, SmallModels, even_batches
from pytest_quantbench.workbench.layer_agreement import agrees_on
from pytest_quantbench.workbench.reference_llama import Seen
from pytest_quantbench.workbench.side_by_side import methods
from pytest_quantbench.workbench.trials import demand, encode, gaussian

CLOSE = 1e-4  # relative to the largest value, in float32
SHOWN: Mapping[str, float] = {"float32": CLOSE, "bfloat16": 3e-2}  # the same of inputs, by the activations
UP = "model.layers.1.mlp.up_proj.weight"
MOST_RATE = 1e14  # bytes per second: more than ten times what any device reads
ALL_ABILITIES = frozenset(get_args(Ability))


def says_what_it_is(engine: Engine, models: SmallModels) -> None:
    """It has every name of the protocol that others ask it by, and `can` lists what it can do of what there is."""
    lacks = lacking(engine)
    demand(not lacks, f"{', '.join(map(repr, lacks))} {'is' if len(lacks) == 1 else 'are'} missing")
    demand(engine.can and engine.can <= ALL_ABILITIES, f"can = {set(engine.can)} is not a part of {set(ALL_ABILITIES)}")
    demand(isinstance(engine.version, str) and engine.version, f"version = {engine.version!r} is no text")
    demand(engine.backend in ("metal", "cuda", "mps", "cpu"), f"backend = {engine.backend!r} is none of ours")
    demand(engine.activations in ("float32", "bfloat16"), f"activations = {engine.activations!r} is neither type")


def opens_every_parameter(engine: Engine, models: SmallModels) -> None:
    """An opened model has every published tensor once, in parameters that are made of them as `origin` says."""
    for tied in (False, True):
        model = models.llama(tie_word_embeddings=tied)
        opened = model.opened(engine)
        demand(list(opened.names) == [each.path for each in opened.parameters], "names and parameters differ")
        sources = [name for path in opened.names for name in opened.origin(path).sources]
        demand(set(sources) == set(model.tensors), f"origin names {len(set(sources))} tensors of {len(model.tensors)}")
        for parameter in opened.parameters:
            held = opened.array(parameter.path)
            made = opened.made(
                parameter.path, {name: model.tensors[name] for name in opened.origin(parameter.path).sources}
            )
            demand(held.shape == parameter.shape, f"{parameter.path} has shape {held.shape}, not {parameter.shape}")
            demand(np.array_equal(held, made), f"{parameter.path} is not made of the tensors that `origin` names")
            inside = parameter.layer is not None and parameter.path.startswith(opened.layers[parameter.layer])
            demand(inside or parameter.layer is None, f"{parameter.path} is said to be of layer {parameter.layer}")
        kinds = [each.kind for each in opened.parameters if each.layer == 0]
        demand(
            kinds.count("linear") > 1 and "experts" not in kinds, f"the kinds of a layer's parameters are {set(kinds)}"
        )


def knows_its_capacity(engine: Engine, models: SmallModels) -> None:
    """`capacity` says how many token ids and positions the config has."""
    found = engine.capacity(models.llama().opened(engine).config)
    demand(found.vocabulary == VOCABULARY, f"capacity says {found.vocabulary} token ids, not {VOCABULARY}")
    demand(found.positions == 128, f"capacity says {found.positions} positions, not 128")


def shows_the_inputs(engine: Engine, models: SmallModels) -> None:
    """`observe` shows every matrix's inputs, whose second moments are the reference's, and stays where it was."""
    model, batches = models.llama(), behind_each_other(even_batches())
    weights = model.weights(engine)
    walk, moments = engine.walk([weights]), _Moments()
    walk.begin(batches)
    for index in range(len(walk)):
        walk.observe(index, moments)
        walk.advance(index)
    expected, reference = dict[str, Any](), model.reference()
    for text in (row for batch in batches for row in batch.tokens):
        seen: Seen = {}
        reference.logits(text, seen)
        for name, rows in seen.items():
            expected[name] = expected.get(name, 0) + rows.T @ rows
    for parameter in weights.opened.parameters:
        if parameter.layer is None or parameter.kind != "linear":
            continue
        path, source = parameter.path.removesuffix(".weight"), weights.opened.origin(parameter.path).sources[0]
        found = moments.of(path)
        demand(found is not None, f"the inputs of {path} are not shown")
        _demand_close(found, expected[source], f"the second moments of the inputs of {path}", SHOWN[engine.activations])
    plain = engine.walk([weights])
    plain.run(batches, "")
    tokens = np.zeros(9, np.int64)
    same = np.array_equal(walk.logits(1, slice(None)).nll(tokens), plain.logits(1, slice(None)).nll(tokens))
    demand(same, "a walk that was observed has other logits than one that was not")


class _Moments(InputSink):
    """Second moments of all inputs, by path."""

    def __init__(self) -> None:
        self._sums: dict[str, Rows] = {}
        self._owner: dict[str, str] = {}

    def share(self, path: str, owner: str) -> None:
        self._owner[path] = owner

    def add(self, path: str, rows: Rows, square: Square) -> None:
        self._sums[path] = self._sums.get(path, np.float32(0)) + square(rows)

    def add_routed(self, path: str, rows: Rows, by_expert: Iterable[tuple[int, Rows]], square: Square) -> None:
        demand(False, f"{path} is shown as a layer of experts, and is none")

    def of(self, path: str) -> Rows | None:
        return self._sums.get(self._owner.get(path, path))


def decodes_every_method(engine: Engine, models: SmallModels) -> None:
    """`decode`, brought to the host, gives what each registered method's own `decode` gives."""
    for name, width, quantizer in methods():
        shape = (8, 128)
        encoding = Encoding(codec=quantizer, arrays=encode(quantizer, gaussian(shape)), shape=shape)
        found = engine.to_host(engine.decode(encoding)).astype(np.float32)
        _demand_close(found, encoding.dense().astype(np.float32), f"{name} at {width} bits, decoded,")


def layers_agree_with_decode(engine: Engine, models: SmallModels) -> None:
    """What the engine builds of each registered method's `layer` computes what the decoded matrix computes."""
    for _, _, quantizer in methods():
        agrees_on(engine, quantizer)


def writes_what_it_is_given(engine: Engine, models: SmallModels) -> None:
    """`save` writes a safetensors file with these arrays, in their types."""
    arrays = {"a.codes": np.arange(6, dtype=np.uint32).reshape(2, 3), "a.scales": gaussian((4, 2))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrays.safetensors"
        engine.save(file, arrays)
        held = load(file)
    demand(held.keys() == arrays.keys(), f"a file of {sorted(arrays)} has {sorted(held)}")
    for name, array in arrays.items():
        same = held[name].dtype == array.dtype and np.array_equal(held[name], array)
        demand(same, f"{name} comes back from a file as other values or another type")


def refuses_in_a_sentence(engine: Engine, models: SmallModels) -> None:
    """An architecture that it does not know, a tensor that is missing or of another shape raise ModelError, and values
    that are no numbers WeightError, with what it is about.
    """
    held = models.llama().tensors[UP]
    spoiled = held.copy()
    spoiled[0, 0] = np.nan
    unknown = models.llama(model_type="perceptron", architectures=["PerceptronForCausalLM"])
    missing, other = models.llama(change={UP: None}), models.llama(change={UP: held.T})
    _demand_refused(lambda: unknown.opened(engine), ModelError, "perceptron", "an architecture that nobody has")
    _demand_refused(lambda: missing.opened(engine), ModelError, "up_proj", "a tensor that is missing")
    _demand_refused(lambda: other.opened(engine), ModelError, "", "a tensor of another shape")
    opened = models.llama(change={UP: spoiled}).opened(engine)
    paths = [path for path in opened.names if UP in opened.origin(path).sources]
    for path in paths:
        _demand_refused(lambda path=path: opened.array(path), WeightError, path, "a weight that is no number")  # type: ignore[misc]


def _demand_refused(step: Callable[[], object], kind: type[QuantbenchError], named: str, what: str) -> None:
    try:
        step()
    except kind as error:
        said = str(error)
        demand(named in said and said.endswith("."), f"{what} is told without {named!r} or not in a sentence: {said}")
        return
    demand(False, f"{what} is taken without a {kind.__name__}")


def measures_itself(engine: Engine, models: SmallModels) -> None:
    """Its figures of memory, of fixed products and of how fast memory is read are numbers, those of memory larger for
    more of it.
    """
    engine.reset_peak()
    demand(engine.peak_bytes() >= 0, "peak_bytes is below 0")
    demand(engine.answers_bytes(2000) == 2 * engine.answers_bytes(1000) > 0, "answers_bytes is not in proportion")
    demand(engine.products_per_second(64, 2) > 0, "products_per_second is not above 0")
    rates = [engine.read_bytes_per_second(held) for held in (10**5, 10**6)]
    demand(all(0 < rate < MOST_RATE for rate in rates), f"memory is read at {rates} bytes per second")
    engine.release()


def _demand_close(found: Rows | None, expected: Rows, what: str, close: float = CLOSE) -> None:
    shape = None if found is None else found.shape
    demand(shape == expected.shape, f"{what} has shape {shape}, not {expected.shape}")
    assert found is not None
    error, limit = np.abs(found - expected).max(), close * np.abs(expected).max() + 1e-7
    demand(error <= limit, f"{what} differs by {error:.2e}, more than {limit:.2e}")
