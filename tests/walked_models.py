"""Random weights that either engine walks, and its walks of them."""

import numpy as np
import pytest
from small_models import CONFIGS, HEADS

ENGINES = ("mlx", "torch")


def shapes_of(engine, config):
    """Every parameter's shape by its path, as this engine names them."""
    if engine == "mlx":
        from pytest_quantbench.engines.mlx import skeleton as of_mlx_lm

        return of_mlx_lm.shapes(of_mlx_lm.skeleton(config, HEADS))
    pytest.importorskip("torch")
    from pytest_quantbench.engines.torch import skeleton as of_transformers

    return of_transformers.shapes(of_transformers.skeleton(config))


class Numbers:
    """Weights of a random model, as a walk reads them: numpy arrays, the same ones under one name with any engine."""

    def __init__(self, engine, architecture="llama", seed=0):
        self.config = CONFIGS[architecture]
        self.parameters = {}
        for name, shape in shapes_of(engine, self.config).items():
            rng = np.random.default_rng([seed, *name.encode()])
            drawn = rng.standard_normal(shape, np.float32)
            self.parameters[name] = drawn * np.float32(shape[-1] ** -0.5) if len(shape) > 1 else 1 + drawn / 10
        self.names = list(self.parameters)
        self.asked = []

    def dense(self, name):
        self.asked.append(name)
        return self.parameters[name]

    def inputs(self, name):
        return None


def walk_of(engine, *tracks, **how):
    """A walk in float32 on a CPU."""
    if engine == "mlx":
        from pytest_quantbench.engines.mlx.walk import Walk as OfMlx

        return OfMlx(*tracks, host=True, **how)
    import torch

    from pytest_quantbench.engines.torch.walk import Walk as OfTorch

    return OfTorch(*tracks, device=torch.device("cpu"), **how)


def logits_of(walk, batches, track=0):
    """Those of all positions of every batch."""
    return [np.array(walk.head(number, slice(None), track)) for number in range(len(batches))]
