"""Models in memory whose tokens take known times, and what a trial of a sweep asks for beside them."""

from types import SimpleNamespace

from pytest_quantbench.engines.resident import Timed, TimedBatch
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures.sweep.trial import SweepTrial


class Model:
    """A step takes `step` seconds, a token of a prompt `read`; every run is longer than the one before by 1 %."""

    activations, bytes_per_token, cache_bytes_per_token = "float32", 1000, 10

    def __init__(self, name, log, step=0.01, read=0.001, refuses=0):
        self.name, self.log, self.step, self.read, self.refuses = name, log, step, read, refuses
        self.runs, self.drawn = 0, []

    def batch_bytes(self, rows, tokens):
        return rows * tokens * 10

    def sampler(self, seed, temperature):
        return seed, temperature

    def _seconds(self, first, count):
        self.runs += 1
        return [(first + self.step * place) * 1.01**self.runs for place in range(count)]

    def timed_batch(self, prompts, new_tokens, sampler=None):
        self.log.append((self.name, len(prompts), len(prompts[0])))
        if self.refuses and len(prompts) >= self.refuses:
            raise ModelError("This model reads one text at a time.")
        self.drawn.append(sampler)
        seconds = self._seconds(self.read * len(prompts[0]), new_tokens)
        return TimedBatch(tokens=((0,) * new_tokens,) * len(prompts), seconds=tuple(seconds), step="captured")

    def timed_requests(self, prompts, new_tokens):
        self.log.append((self.name, len(prompts), "requests"))
        self.runs += 1
        return tuple(
            Timed(
                tokens=(0,) * new_tokens,
                seconds=tuple(self.read * len(each) + self.step * place for place in range(new_tokens)),
            )
            for each in prompts
        )


class Engine:
    can, backend, threads = frozenset({"resident", "batches"}), "cpu", 1

    def __init__(self, free=10**9):
        self.free, self.released = free, 0

    def products_per_second(self, side, repeats):
        return 100.0

    def read_bytes_per_second(self, held):
        return 1e6

    def free_bytes(self):
        return self.free

    def release(self):
        self.released += 1


def artifact(key):
    return SimpleNamespace(manifest=SimpleNamespace(key=key, stored_bytes=1), recipe_id=key)


def trial(tmp_path, *, positions=None, engine=None, own=None, reference=None, work=None, fresh=False, seed=0):
    """A trial whose models are loaded already."""
    settings = SimpleNamespace(cache=tmp_path, seed=seed, temperature=0.5, new_tokens=6, fresh=fresh)
    engine = engine or Engine()
    inputs = SimpleNamespace(engine=engine, settings=settings, capacity=SimpleNamespace(positions=positions))
    return SweepTrial(
        inputs=inputs,
        artifact=artifact("own"),
        reference=None if reference is None else artifact("reference"),
        work=work or {"points": 1},
        _loaded=own or Model("own", []),
        _reference_loaded=reference,
        _prompts=[[1, 2, 3], [4, 5]],
    )
