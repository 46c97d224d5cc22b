"""How fast this CPU reads memory, by as many threads as PyTorch uses: what kernels are measured against."""

import torch

from pytest_quantbench.engines import bandwidth
from pytest_quantbench.engines.torch.kernels.cpu import machine_code
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions, MachineCode, instructions
from pytest_quantbench.engines.torch.kernels.cpu.writing import KINDS, Code

TILE_BYTES = 4096
SLOTS = ("memory", machine_code.TILES, "found")


def read_bytes_per_second() -> float:
    """Bytes per second of reading an array much larger than the caches from one end to the other."""
    held = torch.ones(bandwidth.READ_BYTES // 8, dtype=torch.int64)
    found = torch.zeros(1, dtype=torch.int64)
    job = torch.tensor([held.data_ptr(), held.nbytes // TILE_BYTES, found.data_ptr()], dtype=torch.int64)
    code = _reading(instructions())
    return bandwidth.best_rate(lambda: code.run(job.data_ptr()), held.nbytes)


def _reading(cpu: Instructions) -> MachineCode:
    """A program that combines all bits that it reads, which nothing can leave out."""
    code = Code(SLOTS)
    lanes, unrolled = cpu.lanes, 8
    memory = code.slot("memory", "pointer").at(code.begin * TILE_BYTES, "i8")
    totals = [code.variable(code.number(0, "i32", lanes)) for _ in range(unrolled)]
    step = 4 * lanes * unrolled
    for place in code.loop(code.number(0), (code.end - code.begin) * TILE_BYTES, step):
        for index, total in enumerate(totals):
            total.set(total.get() | memory.at(place, "i8").load(index * lanes, "i32", lanes))
    for total in totals[1:]:
        totals[0].set(totals[0].get() | total.get())
    combined = code.intrinsic("vector.reduce.or", KINDS["i32"], totals[0].get())
    code.slot("found", "pointer").store(0, combined.to("i64", "zext"), "i64")
    code.builder.ret_void()
    return machine_code.compiled(code)
