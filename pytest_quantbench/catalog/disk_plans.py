"""Disk plans: which weights a session keeps, and in which order it goes through the models for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.errors import unknown
from pytest_quantbench.storage.files import GB


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """What stays on disk. BF16 weights that this run did not fetch always stay."""

    name: str
    meaning: str
    levels: tuple[str, ...] | None = None  # None: all
    keeps_bf16: bool  # else deleted when all of the model's items are done
    stores: bool = True  # whether compressed models are written to disk

    def takes(self, recipe: Recipe) -> bool:
        """Whether a recipe's cells are measured. Candidates and caches are: nothing is written of them."""
        needs_disk = recipe.candidate is None and recipe.kind != "cache"
        return self.levels is None or recipe.level in self.levels or not needs_disk

    def writes(self, recipe: Recipe) -> bool:
        """Whether a compressed model is written."""
        return self.stores and self.takes(recipe) and not recipe.of_weights.is_identity and recipe.candidate is None


_INT4 = ("bf16", "int4")
_PLANS = (
    DiskPlan(name="A", meaning="keep everything", keeps_bf16=True),
    DiskPlan(name="B", meaning="delete a model's BF16 weights when it is done", keeps_bf16=False),
    DiskPlan(name="C", meaning="INT4 only", levels=_INT4, keeps_bf16=True),
    DiskPlan(name="D", meaning="INT4 only, delete BF16 weights", levels=_INT4, keeps_bf16=False),
    DiskPlan(
        name="S",
        meaning="stream: encode layer by layer as it is measured, write no compressed model, delete BF16 weights",
        keeps_bf16=False,
        stores=False,
    ),
)
DISK_PLANS: Mapping[str, DiskPlan] = MappingProxyType({plan.name: plan for plan in _PLANS})


def disk_plan(name: str) -> DiskPlan:
    """The plan of that name. Raises UnknownNameError for another."""
    if name not in DISK_PLANS:
        raise unknown("disk plan", name, list(DISK_PLANS))
    return DISK_PLANS[name]


def bf16_bytes(model: Model) -> float:
    """Bytes of a model's BF16 weights; 0 where they are not known before they are fetched."""
    if model.bf16_gb is not None:
        return model.bf16_gb * GB
    return float(sum(file.stat().st_size for file in Path(model.source).glob("*.safetensors"))) if model.local else 0.0


def in_order(models: Sequence[Model], plan: DiskPlan) -> list[Model]:
    """The order in which a session goes through models: where BF16 weights are deleted, the largest first, while the
    disk is emptiest; else as they are given.
    """
    return list(models) if plan.keeps_bf16 else sorted(models, key=lambda model: -bf16_bytes(model))
