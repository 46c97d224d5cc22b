"""Engines that each do one thing wrong: what conformance has to tell from `numpy_engine`, which does nothing wrong."""

from dataclasses import replace
from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy_engine import NumpyEngine, NumpyWalk, Opened, Resident

from pytest_quantbench.engines.batches import PADDING
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.engines.parameters import Capacity, Origin
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import WeightError


def rounded(values):
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


class Flies(NumpyEngine):
    """Says that it can what nobody is asked for."""

    can = frozenset({"walk", "fly"})


class Nameless:
    """Has nothing of the protocol."""

    def __init__(self, *, activations):
        pass


class WrongRope(NumpyEngine):
    """Turns by another base than the config says."""

    def turned(self, heads, positions, config):
        return super().turned(heads, positions, {**config, "rope_theta": 10000.0})


class NeighboursTurned(NumpyEngine):
    """Turns neighbouring values against each other, as the paper has it, and not a head's halves."""

    def turned(self, heads, positions, config):
        order = np.arange(heads.shape[-1]).reshape(-1, 2).T.ravel()
        return super().turned(heads[..., order], positions, config)[..., np.argsort(order)]


class SeesTheNext(NumpyEngine):
    """A token sees the one behind it."""

    def visible(self, places, length, window):
        seen, seeing = places.keys[:, None, None, :], places.keys[:, None, -length:, None]
        return (seen <= seeing + 1) & (seen < PADDING)


class SeesNotItself(NumpyEngine):
    """A token does not see itself, but the text's first one."""

    def visible(self, places, length, window):
        seen, seeing = places.keys[:, None, None, :], places.keys[:, None, -length:, None]
        return (seen < seeing) | (seen == 0)


class Unscaled(NumpyEngine):
    """Scores are not divided by the root of a head's size."""

    def scale(self, size):
        return np.float32(1)


class GroupsSwapped(NumpyEngine):
    """Heads that share keys are every other one, not neighbours."""

    def shared(self, heads, times):
        return np.tile(heads, (1, times, 1, 1))


class NoEpsilon(NumpyEngine):
    """Norms divide by the root of the mean square alone."""

    def norm(self, values, weight, eps):
        return super().norm(values, weight, 0.0)


class GatesTheOther(NumpyEngine):
    """The gate's function is put on the other product."""

    def gated(self, gate, up):
        return super().gated(up, gate)


class RoundedLogits(NumpyEngine):
    """Logits lie in bfloat16."""

    def told(self, logits):
        return HostLogits(rounded(logits))


class RoundedStates(NumpyEngine):
    """Hidden states lie in bfloat16, though it says float32."""

    def kept(self, states, track, rounds):
        return rounded(states)


class RoundsNothing(NumpyEngine):
    """`Rounded` weights are walked as others are."""

    def kept(self, states, track, rounds):
        return states


class WindowIgnored(NumpyEngine):
    """A model with a window sees everything."""

    def visible(self, places, length, window):
        return places.visible(length, None)


class WindowTooLong(NumpyEngine):
    """A window has one token too many."""

    def visible(self, places, length, window):
        return places.visible(length, window and window + 1)


class BranchesAnew(NumpyEngine):
    """A branch's positions begin at 0."""

    def positions(self, places, length):
        return np.zeros_like(places.starts)[:, None] + np.arange(length)


class BranchesAtWidth(NumpyEngine):
    """A branch's positions begin behind the padding of what it goes on from."""

    def positions(self, places, length):
        return np.full_like(places.starts, places.keys.shape[1] - length)[:, None] + np.arange(length)


class PaddingSeen(NumpyEngine):
    """A branch sees the padding of what it goes on from."""

    def visible(self, places, length, window):
        above = places.keys.shape[1] - length
        seen = super().visible(places, length, window)
        seen[..., :above] = True
        return seen


class TracksMixed(NumpyEngine):
    """What one track has computed is added to the next, by very little."""

    def kept(self, states, track, rounds):
        before, self.before = getattr(self, "before", 0), float(states.ravel()[0])
        return super().kept(states, track, rounds) + np.float32(1e-5 * before * (track > 0))


class NanEndsAll(NumpyEngine):
    """One track whose numbers end takes the others along."""

    def failed(self, failed, track, index):
        failed |= dict.fromkeys(range(8), WeightError("One of the tracks gives values that are no numbers."))


class NanGoesOn(NumpyEngine):
    """Nobody looks whether hidden states are numbers."""

    def failed(self, failed, track, index):
        pass


class SecondStep(NumpyWalk):
    """`run` goes through the last layer twice."""

    def run(self, batches, what):
        super().run(batches, what)
        self.advance(len(self) - 1)


class RunsOneMore(NumpyEngine):
    walks = SecondStep


class StepsBackwards(NumpyEngine):
    """`advance` of single steps goes through another layer than `run`."""

    class walks(NumpyWalk):
        def run(self, batches, what):
            self.begin(batches)
            for index in range(len(self)):
                super().advance(index)

        def advance(self, index):
            super().advance(len(self) - 1 - index)


class PlaceByPlace(NumpyEngine):
    """`logits` gives all rows of a place before the next place."""

    class walks(NumpyWalk):
        def logits(self, batch, positions, track=0):
            states = self._asked(track)[batch].states[:, positions]
            return self._head(states.transpose(1, 0, 2).reshape(-1, states.shape[-1]), track)


class FilesAreHalf(NumpyEngine):
    """What goes to files is rounded to 16 bits."""

    def walk(self, models, *, memory_bytes=2**30):
        self.in_files = memory_bytes == 0
        return super().walk(models)

    def kept(self, states, track, rounds):
        states = super().kept(states, track, rounds)
        return states.astype(np.float16).astype(np.float32) if getattr(self, "in_files", False) else states


class RulesIgnored(NumpyEngine):
    """Inputs of layers are not put on their grids."""

    def ruled(self, rule, entered):
        return entered


class HashOfNames(NumpyEngine):
    """The hash is of what there is, and not of its values."""

    def digest(self, name, values):
        return super().digest(name, np.zeros_like(values))


class HashOfRounded(NumpyEngine):
    """The hash is of weights in bfloat16."""

    def digest(self, name, values):
        return super().digest(name, rounded(values))


class HashByTrack(NumpyEngine):
    """The hash is of how many tracks there are, too."""

    class walks(NumpyWalk):
        def weights_sha256(self, track=0):
            tracks = {} if len(self._weights) == 1 else {"tracks": str(len(self._weights))}
            return self._engine.hashed({**self._held[track], **tracks})


class HashOfItsOwn(NumpyEngine):
    """The hash is of the same values by another definition."""

    def hashed(self, held):
        return super().hashed({f"model.{name}": value for name, value in held.items()})


class Shown(NumpyEngine):
    """Inputs are shown as the norm's weight would have left them twice as large."""

    def show(self, inputs, path, owner, entered):
        super().show(inputs, path, owner, 2 * entered)


class ShowsTheFirstRow(NumpyEngine):
    """Of each batch the first row's inputs are shown."""

    def show(self, inputs, path, owner, entered):
        super().show(inputs, path, owner, entered[:1])


class SharesTooMuch(NumpyEngine):
    """The inputs of a down projection are said to be those of the gate."""

    def show(self, inputs, path, owner, entered):
        super().show(inputs, path, path.replace("down", "gate") if "down" in path else owner, entered)


class ObserveMoves(NumpyEngine):
    """To observe a layer is to go through it."""

    class walks(NumpyWalk):
        def observe(self, index, inputs):
            for state, (after, _) in zip(self._states[0], self._through(index, 0, inputs), strict=True):
                state.states = after


class Unlikeliest(NumpyEngine):
    """Of logits the smallest is taken."""

    class Logits(HostLogits):
        def likeliest(self):
            return self._rows.argmin(-1)

    def told(self, logits):
        return self.Logits(logits)


class LeavesSomeOut(NumpyEngine):
    """Losses are among the first thousand tokens."""

    class Logits(HostLogits):
        def nll(self, tokens):
            return HostLogits(self._rows[:, :1024]).nll(tokens)

    def told(self, logits):
        return self.Logits(logits)


class DivergesMore(NumpyEngine):
    """A divergence is told half as large again as it is."""

    class Logits(HostLogits):
        def against(self, kept):
            found = super().against(kept)
            return replace(found, kl_nats=found.kl_nats * 1.5)

    def told(self, logits):
        return self.Logits(logits)


class KeepsUnnormed(NumpyEngine):
    """Distributions are kept as logits."""

    class Logits(HostLogits):
        def compact(self, place):
            found = super().compact(place)
            return replace(found, log_probabilities=found.log_probabilities + np.float32(1))

    def told(self, logits):
        return self.Logits(logits)


class DecodesRoughly(NumpyEngine):
    """Decoded matrices are rounded to eight bits of a float."""

    def decode(self, encoding):
        return rounded(encoding.dense() * 1.001)


class LayersWithoutRules(NumpyEngine):
    """Layers whose inputs ought to be rounded take them as they are."""

    def outputs(self, layer, decode, inputs):
        return inputs @ decode().astype(np.float32).T


class SavesFloats(NumpyEngine):
    """All that is saved is saved in float32."""

    def save(self, file, arrays):
        super().save(file, {name: array.astype(np.float32) for name, array in arrays.items()})


class TakesAnything(NumpyEngine):
    """Whatever the architecture is called, it is a Llama."""

    class opens(Opened):
        def __init__(self, checkpoint, engine):
            checkpoint.config = {**checkpoint.config, "model_type": "llama"}
            super().__init__(checkpoint, engine)


class MissingIsKeyError(NumpyEngine):
    """A tensor that is missing ends in a KeyError."""

    class opens(Opened):
        def _check(self):
            pass


class NanIsTaken(NumpyEngine):
    """Weights that are no numbers are handed out."""

    class opens(Opened):
        def array(self, path):
            return self._held[path]


class OriginsSwapped(NumpyEngine):
    """Gate and up are said to be made of each other."""

    class opens(Opened):
        def origin(self, path):
            swapped = {"gate": "up", "up": "gate"}
            other = next((path.replace(a, b) for a, b in swapped.items() if f"{a}_proj" in path), path)
            return Origin(form="same", sources=(other,))


class KnowsNoEnd(NumpyEngine):
    """Takes texts of any length, it says."""

    def capacity(self, config):
        return Capacity(vocabulary=config["vocab_size"], positions=None)


class GainsMemory(NumpyEngine):
    """Twice as many weights take no more memory."""

    def answers_bytes(self, values):
        return 4096


class ReadsInNoTime(NumpyEngine):
    """Memory is read faster than any is."""

    def read_bytes_per_second(self, held):
        return float("inf")


class ForgetsTheLast(NumpyEngine):
    """Answers go on from the prompt without its last token."""

    class residents(Resident):
        def _next(self, tokens):
            return super()._next(tokens[:-1])


class IgnoresStops(NumpyEngine):
    """Stop strings stop nothing."""

    class residents(Resident):
        def _one(self, tokenizer, prompt, stops, limit, ends):
            return super()._one(tokenizer, prompt, [], limit, ends)


class KeepsTheEnd(NumpyEngine):
    """The token that ends an answer is one of it."""

    class residents(Resident):
        def _one(self, tokenizer, prompt, stops, limit, ends):
            found = super()._one(tokenizer, prompt, stops, limit, ends)
            return replace(found, tokens=(*found.tokens, *ends)) if found.ended == "eos" else found


class TimesTheText(NumpyEngine):
    """Only the whole text has a moment."""

    class residents(Resident):
        def timed(self, prompt, new_tokens):
            timed = super().timed(prompt, new_tokens)
            return replace(timed, seconds=timed.seconds[-1:])


class ReadsNothing(NumpyEngine):
    """A token reads no bytes."""

    class residents(Resident):
        def __init__(self, engine, model, cache=None):
            super().__init__(engine, model, cache)
            self.bytes_per_token = 0


class HasNoKernels(NumpyEngine):
    """No kernel multiplies anything."""

    class residents(Resident):
        kernels: ClassVar = {}


class StepsSomehow(NumpyEngine):
    """How a step is run has a name that records do not know."""

    class residents(Resident):
        step = "somehow"


class RunsEncodedAsDense(NumpyEngine):
    """A model in memory takes an encoded matrix for zeros."""

    def load(self, model, use, cache=None):
        encoded = [name for name in model.names if model.encoding(name) is not None]
        dense = model.dense
        model.dense = lambda name: np.zeros_like(dense(name)) if name in encoded else dense(name)
        return super().load(model, use, cache)


class CacheInFull(NumpyEngine):
    """It says that it can hold a cache in few bits, and holds all in full."""

    def held(self, method, keys, values, queries, places):
        return super().held(None, keys, values, queries, places)


class RoundsTwice(NumpyEngine):
    """What has been rounded is rounded again."""

    def given_back(self, form, part, stage, numbers, positions, queries, keys):
        once = super().given_back(form, part, stage, numbers, positions, queries, keys)
        return super().given_back(form, part, stage, once, positions, queries, keys)


class SeesAllOld(NumpyEngine):
    """Every query sees tokens as the last query of its text does."""

    def reached(self, form, part, queries, tokens):
        last = tokens[tokens < PADDING].max()
        return super().reached(form, part, np.full_like(queries, last), tokens)


class AgesLate(NumpyEngine):
    """A token has aged by one when two have been stored behind it."""

    def reached(self, form, part, queries, tokens):
        return super().reached(form, part, queries - 1, tokens)


class RoundsPadding(NumpyEngine):
    """Tokens are rounded with what pads a row."""

    def given_back(self, form, part, stage, numbers, positions, queries, keys):
        places = np.broadcast_to(np.arange(positions.shape[1]), positions.shape)
        return super().given_back(form, part, stage, numbers, places, queries, keys)


class HoldsKeysAlone(NumpyEngine):
    """Values are held in full."""

    def given_back(self, form, part, stage, numbers, positions, queries, keys):
        return numbers if part == "values" else super().given_back(form, part, stage, numbers, positions, queries, keys)


class TurnsNothing(NumpyEngine):
    """Keys are rounded as they are where they ought to be rotated."""

    def given_back(self, form, part, stage, numbers, positions, queries, keys):
        form = replace(form, rotates=False)
        return super().given_back(form, part, stage, numbers, positions, queries, keys)


class SinksRounded(NumpyEngine):
    """The first tokens are held like all others."""

    def reached(self, form, part, queries, tokens):
        return super().reached(replace(form, sinks=0), part, queries, tokens)


class CacheForAll(NumpyEngine):
    """Where one track has a cache in few bits, those behind it have it too."""

    def held(self, method, keys, values, queries, places):
        self.last = method or getattr(self, "last", None)
        return super().held(self.last, keys, values, queries, places)


class AnswersInFull(NumpyEngine):
    """A model in memory has its cache in full."""

    def load(self, model, use, cache=None):
        return super().load(model, use)


class CountsEveryPlace(NumpyEngine):
    """Every place of a track with a cache in few bits is told to hang on it."""

    def counted(self, walk, batch, track):
        found = super().counted(walk, batch, track)
        return None if found is None else np.ones_like(found)


class CountsNoParents(NumpyEngine):
    """What the rows before have seen, and how old they are, is forgotten."""

    def counted(self, walk, batch, track):
        found = super().counted(walk, batch, track)
        return found if found is None or walk.batches[batch].parent is None else np.zeros_like(found)


class CountsPlainTracks(NumpyEngine):
    """A track with its cache in 16 bits tells of places, too."""

    def counted(self, walk, batch, track):
        found = super().counted(walk, batch, track)
        return np.zeros(walk.batches[batch].tokens.shape, bool) if found is None else found


class AnswersUntold(NumpyEngine):
    """Answers do not tell whether they saw tokens in few bits."""

    def engaged(self, found, prompts, held):
        return found


class RowsMixed(NumpyEngine):
    """Texts that go on together get each other's tokens."""

    class residents(Resident):
        def timed_batch(self, prompts, new_tokens, sampler=None):
            found = super().timed_batch(prompts, new_tokens, sampler)
            return replace(found, tokens=found.tokens[::-1])


class RequestsCut(NumpyEngine):
    """Requests that are there at once are cut to the length of the shortest."""

    class residents(Resident):
        def timed_requests(self, prompts, new_tokens):
            shortest = min(map(len, prompts))
            return super().timed_requests([prompt[-shortest:] for prompt in prompts], new_tokens)


class BatchesAreFree(NumpyEngine):
    """More texts take no more memory than one."""

    class residents(Resident):
        def batch_bytes(self, rows, tokens):
            return super().batch_bytes(1, tokens)


class SeedIgnored(NumpyEngine):
    """What is drawn has nothing to do with the seed."""

    class residents(Resident):
        def sampler(self, seed, temperature=1.0):
            return super().sampler(None, temperature)


class WalksOnly(NumpyEngine):
    """Nothing is wrong with it; it can no more than walk."""

    can = frozenset({"walk"})


class BranchesEvenly(NumpyEngine):
    """Nothing is wrong with it; it says that branches have to be of one length."""

    def prove(self, model):
        return Proof(architecture="llama", branching="even", unbranched="It has one place for all rows.")


class KeepsTextsShort(WindowIgnored):
    """Nothing is wrong with it; it has no windows, and takes no texts that are longer than one."""

    def capacity(self, config):
        longest = min(config["max_position_embeddings"], config.get("sliding_window") or 2**30)
        return Capacity(vocabulary=config["vocab_size"], positions=longest)
