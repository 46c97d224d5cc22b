import time
import torch
from pytest_quantbench.engines.resident import Timed
def timed(decoder, prompt, new_tokens):
    """One generation of exactly so many tokens."""
    began = time.perf_counter()
    tokens = [decoder.begin(prompt)]
    seconds = [time.perf_counter() - began]
    while len(tokens) < new_tokens:
        tokens.append(decoder.next())
        seconds.append(time.perf_counter() - began)
    return Timed(tokens=tuple(tokens), seconds=tuple(seconds))
