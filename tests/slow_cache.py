"""A key-value cache as it is decoded with: one token at a time, every token rounded anew at every step.

What any walk with a held cache is compared with. Nothing of it is an engine's: which form a token is in is counted
here from what has been stored, and rotations are scipy's.
"""

import numpy as np
from scipy.linalg import hadamard


class SlowCache:
    """The keys or values of one layer and one text, in float64."""

    def __init__(self, method, part, channels):
        self.form, self.part, self.tokens = method.form(channels), part, []
        self.rotation = np.eye(channels)
        if self.form.rotates and part == "keys":
            self.rotation = hadamard(channels) / np.sqrt(channels)

    def store(self, token):
        """(heads, channels) of the next token → (heads, tokens, channels) of all, as its query sees them."""
        self.tokens.append(np.asarray(token, np.float64))
        computed = np.stack(self.tokens, axis=1)
        seen = computed.copy()
        for place in range(self.form.sinks, len(self.tokens)):
            stage = self.stage_of(place)
            if stage is not None and stage.rounding is not None:
                seen[:, place] = self.held(stage.rounding, computed, place)
        return seen

    def stage_of(self, place):
        """The last stage whose age the token has, and whose chunk of tokens has it to the end."""
        found = None
        for stage in self.form.stages(self.part):
            old_enough = max(len(self.tokens) - stage.age, 0)
            if place < old_enough - old_enough % stage.chunk:
                found = stage
        return found

    def held(self, rounding, computed, place):
        first = place - place % rounding.token_group
        group = computed[:, first : first + rounding.token_group] @ self.rotation.T
        given_back = rounding.rounded(np.ascontiguousarray(group, np.float32))
        return given_back[:, place - first].astype(np.float64) @ self.rotation
