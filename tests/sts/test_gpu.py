"""GPU metrics with a management library that the test plays, and on the machine as it is."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from babelcast.sts.gpu import Gpu, GpuCollector, Nvml


class Library:
    """Two cards, the second of which does not answer."""

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        device._obj.value = 1 + index
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:
        if device.value == 2:
            return 999
        memory._obj.total, memory._obj.used = 80 << 30, 3 << 30
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: ctypes.c_void_p, busy: Any) -> int:
        busy._obj.gpu = 25
        return 0


@pytest.fixture
def nvml() -> Iterator[Nvml]:
    made = Nvml.__new__(Nvml)
    made._library = Library()  # type: ignore[assignment]
    yield made


@pytest.mark.unit
def test_cards_that_answer_are_shown(nvml: Nvml) -> None:
    assert nvml.gpus() == [Gpu(0, 3 << 30, 80 << 30, 0.25)]
    registry = CollectorRegistry()
    registry.register(GpuCollector(nvml))
    assert registry.get_sample_value("sts_gpu_memory_used_bytes", {"gpu": "0"}) == 3 << 30
    assert registry.get_sample_value("sts_gpu_busy_ratio", {"gpu": "0"}) == 0.25


@pytest.mark.unit
def test_without_the_library_there_are_no_series() -> None:
    with pytest.raises(OSError):
        Nvml("libno-such-thing.so.1")
    assert list(GpuCollector(None).collect()) == []


@pytest.mark.gpu
@pytest.mark.integration
def test_the_card_of_this_machine() -> None:
    found = Nvml().gpus()
    assert found and 0 < found[0].used_bytes < found[0].total_bytes
