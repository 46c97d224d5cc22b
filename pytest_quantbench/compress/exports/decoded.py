"""Files that somebody else made, decoded: a quantized model without its original, as a directory of the Hub.

Such a directory can be a reference for other candidates, or be run by programs that do not read the files themselves.
Of a GGUF file config and tokenizer are made of what its header says; a directory has its own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.config import read_table
from pytest_quantbench.checkpoints.formats.folder import QUANTIZATION
from pytest_quantbench.checkpoints.formats.gguf import GgufHolding
from pytest_quantbench.checkpoints.formats.gguf_original import write_original
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, Holding, bits_per_weight
from pytest_quantbench.compress.exports.beside import Card, copy_beside, write_config
from pytest_quantbench.compress.exports.differences import Difference, differ, told
from pytest_quantbench.compress.exports.hf import NUMPY, Hf, with_dtype
from pytest_quantbench.compress.exports.protocol import Dtype, Written
from pytest_quantbench.compress.exports.published_names import names_in
from pytest_quantbench.compress.exports.safetensors_files import SafetensorsFiles
from pytest_quantbench.errors import WeightError
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.storage.files import file_sha256


def write_decoded(holding: Holding, dtype: Dtype, directory: Path) -> Written:
    """Write weights, config and tokenizer, a tensor in memory at a time. Raises ModelError for files that do not say
    enough, WeightError for values that are no numbers, OSError where the disk is full.
    """
    config = _write_beside(holding, directory)
    write_config(directory, with_dtype(config, dtype))
    names = _names(holding, config)
    rounded = Difference(reason=f"Rounding to {dtype} changes decoded weights")
    with SafetensorsFiles(directory, names, "pt") as files:
        for name in track(names, what=f"decoding {holding.format}", unit="tensor"):
            tensor = holding.tensor(name)
            assert tensor is not None
            exact = _float32(holding, tensor)
            array = exact.astype(NUMPY[dtype])
            files.add(name, array)
            if differ(exact, array):
                rounded.add(name, exact, exact, array)
        stored_bytes = files.finish()
    sentences, lines = told([rounded])
    return Written(stored_bytes=stored_bytes, differences=(*sentences, *_lost(holding)), details=lines)


def _lost(holding: Holding) -> Iterator[str]:
    """A sentence for each thing beside its weights that the files' scheme asks for."""
    coded = [tensor for tensor in holding.stored() if tensor.codec is not None]
    if any(tensor.codec is not None and tensor.codec.has_input_rule for tensor in coded):
        yield "The files' scheme also rounds activations while the model runs, which decoded weights cannot hold."
    for note in dict.fromkeys(tensor.note for tensor in coded if tensor.note):
        yield f"{note[0].upper()}{note[1:]}."


def card_of_files(holding: Holding, source: str) -> Card:
    """The card of such a directory; `source` is what the files are called."""
    kinds = sorted({tensor.kind for tensor in holding.stored() if tensor.codec is not None})
    return Card(
        title=f"{Path(source).name}, decoded",
        base_model=holding.claims().base_model,
        made_of=f"`{Path(source).name}`, decoded by pytest-quantbench.",
        use=Hf.use,
        facts={
            "format": holding.format,
            "encodings": ", ".join(kinds) or "none",
            "bits per encoded weight, of the files": f"{bits_per_weight(holding.stored()):.3f}",
            **{f"SHA-256 of `{file.name}`": f"`{file_sha256(file)}`" for file in holding.files},
        },
    )


def _write_beside(holding: Holding, directory: Path) -> Mapping[str, Any]:
    """Write tokenizer and, for a GGUF file, config; returns the config without what it says of quantization."""
    if isinstance(holding, GgufHolding):
        write_original(holding, directory)
        return read_table(directory / "config.json")
    original = holding.files[0].parent
    config = {key: value for key, value in read_table(original / "config.json").items() if key not in QUANTIZATION}
    copy_beside(original, directory, config)
    return config


def _names(holding: Holding, config: Mapping[str, Any]) -> list[str]:
    """Published names: the files' own, where they have these."""
    if isinstance(holding, GgufHolding) or holding.naming == "mlx-lm":
        return names_in(holding, config)
    return [tensor.name for tensor in holding.stored()]


def _float32(holding: Holding, tensor: HeldTensor) -> Array:
    arrays = tensor.read()
    if tensor.codec is None:
        (dense,) = arrays.values()
    else:
        dense = Encoding(codec=tensor.codec, arrays=arrays, shape=tensor.shape).dense()
    if not np.isfinite(dense.astype(np.float32)).all():
        raise WeightError(f"{holding.files[0]}: {tensor.name} has NaN or infinite values: not a usable model.")
    return dense.astype(np.float32)
