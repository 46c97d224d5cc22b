"""What a session will fetch and how much disk it takes, known before it starts. Reads sizes, fetches nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.catalog import GB, Model
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetching import is_here
from pytest_quantbench.hub import hub_cache
from pytest_quantbench.listing import check_access
from pytest_quantbench.recipes import Recipe
from pytest_quantbench.storage import free_bytes

Cells = Sequence[tuple[Model, Recipe]]
SCALE_BITS = 0.5  # what scales and the like add to a width: 32 bits for every group of 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeed:
    """Bytes that a session adds to the disk: downloads by model, and artifacts. `unknown`: models of unknown size."""

    fetch: dict[str, float]
    artifacts: float
    unknown: tuple[str, ...]

    @property
    def total(self) -> float:
        """Bytes in all, as far as they are known."""
        return sum(self.fetch.values()) + self.artifacts


def obtainable(cells: Cells, offline: bool) -> Cells:
    """The cells whose models are here or may be fetched: the others will fail, and need no disk."""
    return [(model, recipe) for model, recipe in cells if not offline or is_here(model)]


def disk_need(cells: Cells) -> DiskNeed:
    """What these cells take at most: artifacts that are already in the cache are counted too."""
    models = {model.name: model for model, _ in cells}
    missing = {name: model for name, model in models.items() if not is_here(model)}
    artifacts = sum(
        _bf16_bytes(model) * (recipe.bits + SCALE_BITS) / 16 for model, recipe in cells if recipe.level != "bf16"
    )
    return DiskNeed(
        fetch={name: _bf16_bytes(model) for name, model in missing.items()},
        artifacts=artifacts,
        unknown=tuple(name for name, model in missing.items() if model.bf16_gb is None),
    )


def _bf16_bytes(model: Model) -> float:
    if model.bf16_gb is not None:
        return model.bf16_gb * GB
    return float(sum(file.stat().st_size for file in Path(model.source).glob("*.safetensors"))) if model.local else 0.0


def describe(cells: Cells, cache: Path) -> list[str]:
    """The header's lines: what is fetched, how much disk that takes, how much there is."""
    need = disk_need(cells)
    models = {model.name for model, _ in cells}
    fetched = ", ".join(f"{name} {size / GB:.1f} GB" for name, size in need.fetch.items()) or "nothing"
    unknown = f" (size of {', '.join(need.unknown)} unknown)" if need.unknown else ""
    return [
        f"quantbench: {_count(len(cells), 'cell')} of {_count(len(models), 'model')}; to fetch: {fetched}{unknown}",
        f"quantbench: {need.total / GB:.2f} GB of disk needed, {free_bytes(cache) / GB:.1f} GB free at {cache}",
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def check_session(cells: Cells, offline: bool, cache: Path) -> None:
    """Raise DiskError or ModelError for what would stop the session later: too little disk, models it may not have."""
    found = obtainable(cells, offline)
    check_disk(found, cache)
    if not offline:
        models = {model.source: model for model, _ in found}
        check_access([source for source, model in models.items() if not is_here(model)])


def check_disk(cells: Cells, cache: Path) -> None:
    """Raise DiskError with the numbers if the disks cannot hold what the session will put on them."""
    need = disk_need(cells)
    downloads = sum(need.fetch.values())
    free = free_bytes(cache)
    same_disk = free == free_bytes(hub_cache())
    wanted = [(cache, need.total if same_disk else need.artifacts), (hub_cache(), downloads)]
    for directory, size in wanted:
        if size > free_bytes(directory):
            raise DiskError(
                f"The selection needs {size / GB:.1f} GB at {directory} ({downloads / GB:.1f} GB of models, "
                f"{need.artifacts / GB:.1f} GB of artifacts) and {free_bytes(directory) / GB:.1f} GB are free. Choose "
                f"fewer models with -k or fewer levels with -m, or set QUANTBENCH_CACHE or HF_HOME to a larger disk."
            )
