"""What is measured: one model × one recipe, as it is, or in a variant that only tells how good the measure is.

Variants are the reference with the other type of activations (the noise floor), and a compressed model that was
damaged after it was opened (the self-test).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import REFERENCE, Recipe

PLAIN, ROUNDED, DAMAGED = "plain", "rounded", "damaged: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Equal targets are equal, and nothing is stored in one. `variant`: `plain`, `rounded`, or `damaged: ` and how."""

    model: Model
    recipe: Recipe
    variant: str = PLAIN

    def __hash__(self) -> int:
        """By names: a recipe's parameters lie in mappings, which have no hash."""
        return hash((self.model.name, self.recipe.id, self.variant))

    @property
    def id(self) -> str:
        """`Tiny-int4`."""
        return f"{self.model.name}-{self.recipe.id}"

    @property
    def is_reference(self) -> bool:
        """Whether this is the model in BF16, as it is."""
        return self.variant == PLAIN and self.recipe == REFERENCE

    @property
    def reference(self) -> Target:
        """What this is compared with."""
        return Target(model=self.model, recipe=REFERENCE)

    @property
    def paired(self) -> Target | None:
        """The reference, of all but the reference itself."""
        return None if self.is_reference else self.reference

    @property
    def rounded(self) -> Target:
        """The reference with activations rounded to bfloat16 after every layer; in float32, where all others have them
        in bfloat16.
        """
        return replace(self.reference, variant=ROUNDED)

    @property
    def rounds(self) -> bool:
        """Whether this is that."""
        return self.variant == ROUNDED

    @property
    def plain(self) -> Target:
        """The same as it is."""
        return replace(self, variant=PLAIN)

    @property
    def damage(self) -> str | None:
        """What was done to the compressed model, by its name in `damage.DAMAGES`; None: nothing."""
        return self.variant.removeprefix(DAMAGED) if self.variant.startswith(DAMAGED) else None

    def damaged(self, damage: str) -> Target:
        """The same with this damage."""
        return replace(self, variant=f"{DAMAGED}{damage}")
