"""Whether a walk of Transformers' model is its forward pass, tried in small (see `engines/walk_trial`)."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pytest_quantbench.engines.torch.config_reading import Config
from pytest_quantbench.engines.torch.skeleton import skeleton
from pytest_quantbench.engines.torch.small_twin import FOREIGN, Twin, kinds, named_words
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.engines.walk_trial import Subject, proven


def prove(config: Config, names: Sequence[str], device: torch.device, walk: Callable[..., Any]) -> Proof:
    """Try the architecture of this config in small, in float32; once in a process. Raises ModelError for one that
    Transformers does not have, or whose config it cannot read.
    """

    def subject() -> Subject:
        whole = skeleton(config)
        return Subject(
            config=config,
            whose="Transformers'",
            foreign=FOREIGN,
            kinds=kinds(whole),
            words=named_words(whole),
            twin=Twin,
            walk=lambda twin, proof: walk(twin, device=device, proof=proof),
        )

    described = json.dumps(["torch", config, sorted(names), str(device)], default=str)
    return proven(hashlib.sha256(described.encode()).hexdigest(), subject)
