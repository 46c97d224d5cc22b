"""What Triton makes of a kernel for a GPU that is not there: the machine code that it would start."""

import re
import subprocess
from collections import Counter
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import __file__ as backend
from triton.compiler import ASTSource

POINTERS = {
    torch.int32: "*i32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.uint8: "*u8",
    torch.int16: "*i16",
}
OPTIONS = ("num_warps", "num_stages")
ALIGNED = [["tt.divisibility", 16]]


class Starts(list):
    """What was to be started: kernel, grid, arguments, constants. It takes the place of `launching.started`."""

    def __call__(self, kernel, grid, *arguments, **constants):
        self.append((kernel, grid, arguments, constants))


def compiled(start, capability):
    """For a compute capability such as 90, with what Triton knows of arguments when it starts a kernel."""
    kernel, _, arguments, constants = start
    options = {name: value for name, value in constants.items() if name in OPTIONS}
    constants = {name: value for name, value in constants.items() if name not in OPTIONS}
    signature, attributes = {}, {}
    for place, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        if isinstance(value, torch.Tensor):
            signature[name], attributes[(place,)] = POINTERS[value.dtype], ALIGNED
        elif value == 1:
            constants[name] = 1
        else:
            signature[name] = "i32"
            attributes |= {(place,): ALIGNED} if value % 16 == 0 else {}
    known = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(kernel, known, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=options | {"enable_fp_fusion": True})


def instructions(binary, folder):
    """How often each instruction stands in the machine code."""
    path = folder / "kernel.cubin"
    path.write_bytes(binary.asm["cubin"])
    tool = Path(backend).parent / "bin" / "nvdisasm"
    text = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout
    return Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9.]+)", text, re.MULTILINE))


def empty(*shape, dtype=torch.int32):
    return torch.empty(shape, dtype=dtype, device="meta")
