"""Devices that are not there, and memory that does not suffice."""

import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench.engines import builds
from pytest_quantbench.engines.torch import device as devices
from pytest_quantbench.engines.torch.engine import TorchEngine
from pytest_quantbench.errors import QuantbenchError

pytestmark = pytest.mark.unit


def there(monkeypatch, *, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("has", "expected"),
    [({"cuda": True}, "cuda"), ({"mps": True}, "mps"), ({"cuda": True, "mps": True}, "cuda"), ({}, "cpu")],
)
def test_the_best_device_that_is_there_is_taken(monkeypatch, has, expected):
    there(monkeypatch, **has)
    assert devices.chosen().type == expected
    assert TorchEngine().backend == expected


@pytest.mark.parametrize(("has", "judged"), [({"cuda": True}, True), ({"mps": True}, False), ({}, True)])
def test_speed_is_judged_where_there_are_kernels(monkeypatch, has, judged):
    there(monkeypatch, **has)
    assert TorchEngine().judges_speed is judged


def test_a_build_for_cpus_alone_says_so(monkeypatch):
    there(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(QuantbenchError, match=r"asked to compute on cuda and cannot: torch .* is built for CPUs only"):
        devices.chosen("cuda:0")


def test_a_cuda_device_that_lies_idle_is_warned_of(monkeypatch, tmp_path, caplog):
    there(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert devices.chosen().type == "cpu"
    assert not caplog.records
    (tmp_path / "version").write_text("NVRM version: 580")
    monkeypatch.setattr(builds, "NVIDIA", tmp_path / "version")
    assert devices.chosen().type == "cpu"
    assert "There is an NVIDIA driver, and models run on the CPU all the same: torch" in caplog.text
    assert "is built for CPUs only. Install a build with CUDA" in caplog.text
    caplog.clear()
    assert devices.chosen("cpu").type == "cpu"  # as was asked for
    assert not caplog.records


def test_a_build_with_cuda_and_no_driver_says_so(monkeypatch):
    there(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(QuantbenchError, match=r"built for CUDA 13.0, but no driver or device answers"):
        devices.chosen("cuda")


def test_a_second_device_where_there_is_one(monkeypatch):
    """Kernels and captured steps are started on PyTorch's current device, which is the first."""
    there(monkeypatch, cuda=True)
    with pytest.raises(QuantbenchError, match=r"cuda:1, and takes a kind alone: cuda, cpu\. .*CUDA_VISIBLE_DEVICES"):
        devices.chosen("cuda:1")


def test_products_on_cuda_add_up_in_float32(monkeypatch):
    there(monkeypatch, cuda=True)
    products = torch.backends.cuda.matmul
    products.allow_bf16_reduced_precision_reduction = True  # PyTorch's default
    try:
        TorchEngine(device="cpu")
        assert products.allow_bf16_reduced_precision_reduction is True
        TorchEngine(device="cuda")
        assert products.allow_bf16_reduced_precision_reduction is False
    finally:
        products.allow_bf16_reduced_precision_reduction = True


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "cuda:x"])
def test_a_device_that_is_none_is_refused(monkeypatch, name):
    there(monkeypatch, cuda=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(QuantbenchError, match=name):
        devices.chosen(name)


def test_too_little_memory_is_told_with_the_numbers_and_the_way_out(monkeypatch):
    monkeypatch.setattr(devices, "available_bytes", lambda: 10 * 10**9)
    devices.need(torch.device("cpu"), 10 * 10**9, "The model", "")
    with pytest.raises(QuantbenchError, match=r"The model takes 12.35 GB, and cpu has 10.00 GB left. Take a smaller."):
        devices.need(torch.device("cpu"), 12_345_678_901, "The model", "Take a smaller.")


def test_free_memory_of_a_cuda_device_counts_what_pytorch_holds_for_reuse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10)
    assert devices.free_bytes(torch.device("cuda")) == 25


def test_memory_that_ends_meanwhile_is_told(monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda device: 3 * 10**9)
    with (
        pytest.raises(QuantbenchError, match=r"The head .* than cuda has; 3.00 GB .* \(no more\). Go elsewhere.$"),
        devices.within(torch.device("cuda"), "The head", "Go elsewhere."),
    ):
        raise torch.OutOfMemoryError("no more\nand so on")
    with pytest.raises(RuntimeError, match=r"^another$"), devices.within(torch.device("cuda"), "The head", ""):
        raise RuntimeError("another")
