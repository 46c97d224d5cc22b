"""Whether a walk of mlx-lm's model is its forward pass, tried in small (see `engines/walk_trial`)."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pytest_quantbench.engines.mlx.skeleton import Config, skeleton
from pytest_quantbench.engines.mlx.small_twin import FOREIGN, Twin, kinds, named_words
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.engines.walk_trial import Subject, proven


def prove(config: Config, names: Sequence[str], host: bool, walk: Callable[..., Any]) -> Proof:
    """Try the architecture of this config in small; once in a process. Raises ModelError for one that mlx-lm does not
    have, or whose config it cannot read.
    """

    def subject() -> Subject:
        whole = skeleton(config, names)
        return Subject(
            config=config,
            whose="mlx-lm's",
            foreign=FOREIGN,
            kinds=kinds(whole),
            words=named_words(whole),
            twin=lambda small: Twin(small, names),
            walk=lambda twin, proof: walk(twin, host=host, proof=proof),
        )

    described = json.dumps(["mlx", config, sorted(names), host], default=str)
    return proven(hashlib.sha256(described.encode()).hexdigest(), subject)
