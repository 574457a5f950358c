"""Device, precision and memory format: what is chosen, and that it is what is computed with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lab.synthesis.device import THREADS, Arithmetic, choose, peak_memory_mb, reset_peak_memory, use_threads
from lab.synthesis.networks.paper import build

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)


def test_a_cpu_computes_in_float32_unless_asked(no_gpu):
    assert choose() == Arithmetic(CPU, False, True)
    assert choose("cpu", "bfloat16", False) == Arithmetic(CPU, True, False)
    assert choose().name == "cpu float32 channels-last"


def test_a_gpu_computes_in_bfloat16_unless_asked(two_gpus):
    assert choose() == Arithmetic(torch.device("cuda"), True, True)
    assert choose("cuda:1", "float32") == Arithmetic(torch.device("cuda:1"), False, True)
    assert choose("cpu") == Arithmetic(CPU, False, True)


@pytest.mark.parametrize("device", ["gpu", "cuda:two", ""])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ValueError, match="is not a device; try `auto`, `cpu`"):
        choose(device)


def test_a_gpu_that_is_not_there_is_refused(two_gpus):
    with pytest.raises(ValueError, match="cuda:2: this machine has 2 GPUs"):
        choose("cuda:2")


def test_without_gpus_cuda_is_refused(no_gpu):
    with pytest.raises(ValueError, match="this machine has 0 GPUs; try `cpu`"):
        choose("cuda")


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_network_sees_what_was_chosen(bfloat16, channels_last):
    arithmetic = Arithmetic(CPU, bfloat16, channels_last)
    seen: list[tuple[torch.dtype, bool]] = []

    def network(x: Tensor) -> Tensor:
        product = torch.nn.functional.conv3d(x, torch.ones(1, 3, 1, 1, 1))
        seen.append((product.dtype, x.is_contiguous(memory_format=torch.channels_last_3d)))
        return product

    image = arithmetic.run(network, torch.rand(2, 3, 4, 5, 6))
    assert seen == [(torch.bfloat16 if bfloat16 else torch.float32, channels_last)]
    assert image.dtype == torch.float32
    weight = arithmetic.place(build(0, width=2, depth=2)).down[0][-1][0].weight
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last_3d) == channels_last


def test_peak_memory_grows_with_what_is_held():
    reset_peak_memory(CPU)
    before = peak_memory_mb(CPU)
    held = torch.ones(40_000_000)  # 160 MB
    assert peak_memory_mb(CPU) - before > 100
    del held


@pytest.mark.parametrize("name", ["", *THREADS])
def test_the_users_number_of_threads_stays(name, monkeypatch):
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for other in THREADS:
        monkeypatch.delenv(other, raising=False)
    if name:
        monkeypatch.setenv(name, "3")
    use_threads(1000)
    assert asked == ([] if name else [1])
