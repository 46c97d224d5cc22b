"""Small models as MLX stores quantized ones."""

import json
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

GROUP = 64


def as_mlx(original: Path, directory: Path, *, bits: int, others: Mapping[str, int] | None = None) -> Path:
    """A directory with every matrix of the original in so many bits; `others` has those of single ones, by a part of
    their names. Beside the weights it has the original's config and tokenizer.
    """
    directory.mkdir(parents=True)
    config = json.loads((original / "config.json").read_text())
    table: dict[str, object] = {"group_size": GROUP, "bits": bits}
    weights: dict[str, mx.array] = {}
    for name, array in mx.load(str(original / "model.safetensors")).items():
        path = name.removesuffix(".weight")
        if array.ndim != 2:
            weights[name] = array
            continue
        own = next((width for part, width in (others or {}).items() if part in name), bits)
        codes, scales, biases = mx.quantize(array, group_size=GROUP, bits=own)
        weights |= {name: codes, f"{path}.scales": scales, f"{path}.biases": biases}
        if own != bits:
            table[path] = {"group_size": GROUP, "bits": own}
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(config | {"quantization": table}))
    for file in original.glob("tokenizer*"):
        (directory / file.name).write_bytes(file.read_bytes())
    return directory
