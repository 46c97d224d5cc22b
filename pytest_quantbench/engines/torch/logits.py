"""Logits that stay on an accelerator: of a vocabulary per position, only what is asked for comes to the host."""

from functools import cached_property

import numpy as np
import torch

from pytest_quantbench.engines.divergence import Distributions, Fidelity, Floats
from pytest_quantbench.engines.logits import BLOCK, Doubles, HostLogits, Logits, Tokens, compared


class DeviceLogits:
    """(n, vocabulary) float32 logits as PyTorch holds them: `HostLogits` to 1e-5 nats."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._rows = rows

    @cached_property
    def _log_sums(self) -> torch.Tensor:
        """(n, 1). Blocks are added up first, and then their sums: one long sum in float32 drifts."""
        count, vocabulary = self._rows.shape
        largest = self._rows.amax(dim=-1, keepdim=True)
        powers = torch.nn.functional.pad((self._rows - largest).exp_(), (0, -vocabulary % BLOCK))
        return largest + powers.view(count, -1, BLOCK).sum(dim=-1).sum(dim=-1, keepdim=True).log()

    def nll(self, tokens: Tokens) -> Doubles:
        """(n,) negative log-likelihoods in nats of the tokens that follow."""
        chosen = self._rows.gather(1, self._there(tokens)[:, None])
        return _doubles(self._log_sums - chosen)[:, 0]

    def likeliest(self) -> Tokens:
        """(n,) ids of the likeliest tokens; of several equal ones the first."""
        top = self._rows.amax(dim=-1, keepdim=True)
        places = torch.arange(self._rows.shape[1], device=self._rows.device)
        first = torch.where(self._rows == top, places, self._rows.shape[1]).amin(dim=-1)
        found: Tokens = first.cpu().numpy()
        return found

    def compact(self, place: int) -> Distributions:
        """On the host: once for a model, whatever the number of its recipes, and the same on every machine."""
        return HostLogits(self._rows.cpu().numpy()).compact(place)

    def against(self, kept: Distributions) -> Fidelity:
        """The divergence KL(kept ‖ these) at each position."""
        scores, above = self._rows - self._log_sums, np.zeros(len(kept.rest))
        theirs = scores
        if kept.tokens.size:
            theirs = scores.gather(1, self._there(kept.tokens))
            high = scores > torch.from_numpy(kept.threshold).to(scores.device)[:, None]
            above = _doubles(torch.where(high, scores.exp(), 0).sum(dim=-1))
        return compared(kept, _doubles(theirs), above, self.likeliest())

    def _there(self, tokens: Tokens) -> torch.Tensor:
        return torch.from_numpy(np.asarray(tokens, np.int64)).to(self._rows.device)


class CpuLogits(HostLogits):
    """`HostLogits` to the last bit; numpy takes five times as long to cumulate a row."""

    @staticmethod
    def cumulate(masses: Floats, along: Doubles) -> None:
        """Sums of the first so many numbers, in float64, into `along`."""
        torch.cumsum(torch.from_numpy(masses), 0, dtype=torch.float64, out=torch.from_numpy(along))


def logits_of(rows: torch.Tensor) -> Logits:
    """The form that suits where PyTorch computes."""
    return CpuLogits(rows.numpy()) if rows.device.type == "cpu" else DeviceLogits(rows)


def _doubles(values: torch.Tensor) -> Doubles:
    return values.cpu().numpy().astype(np.float64)
