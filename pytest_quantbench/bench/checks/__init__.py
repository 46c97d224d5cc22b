"""How the samples of each measure are judged: a file for each check, and the table of them."""

from collections.abc import Mapping
from typing import Any

from pytest_quantbench.bench.checks.accuracy import AccuracyCheck
from pytest_quantbench.bench.checks.perplexity import DepthCheck, PerplexityCheck
from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.bench.checks.retrieval import RetrievalCheck
from pytest_quantbench.bench.checks.throughput import ThroughputCheck

CHECKS: Mapping[str, type[Check[Any]]] = {
    "perplexity": PerplexityCheck,
    "accuracy": AccuracyCheck,
    "throughput": ThroughputCheck,
    "retrieval": RetrievalCheck,
    "depth": DepthCheck,
}
