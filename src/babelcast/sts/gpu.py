"""GPU memory for the metrics, from NVIDIA's own library where the driver has brought it; nothing elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    used_bytes: int
    total_bytes: int
    busy: float
    """Share of the last sample period in which a kernel ran."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """The management library (``nvmlInit_v2`` and friends). Raises OSError where there is none."""

    def __init__(self, library: str = "libnvidia-ml.so.1") -> None:
        self._library = ctypes.CDLL(library)
        if self._library.nvmlInit_v2() != 0:
            raise OSError("no NVIDIA driver answers")

    def gpus(self) -> list[Gpu]:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        return [gpu for index in range(count.value) if (gpu := self._gpu(index))]

    def _gpu(self, index: int) -> Gpu | None:
        device, memory, busy = ctypes.c_void_p(), _Memory(), _Utilization()
        if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
            return None
        if self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0:
            return None
        self._library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(busy))  # 0 where it is not known
        return Gpu(index, memory.used, memory.total, busy.gpu / 100)


class GpuCollector(Collector):
    """``sts_gpu_*`` at each scrape; no series on a machine without a GPU."""

    def __init__(self, nvml: Nvml | None) -> None:
        self._nvml = nvml

    @classmethod
    def of_this_machine(cls) -> GpuCollector:
        try:
            return cls(Nvml())
        except (OSError, AttributeError):
            return cls(None)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._nvml.gpus() if self._nvml else []
        if not found:
            return
        used = GaugeMetricFamily("sts_gpu_memory_used_bytes", "Memory in use on a GPU, by everybody", labels=["gpu"])
        total = GaugeMetricFamily("sts_gpu_memory_total_bytes", "Memory of a GPU", labels=["gpu"])
        busy = GaugeMetricFamily("sts_gpu_busy_ratio", "Share of time in which a kernel ran", labels=["gpu"])
        for gpu in found:
            used.add_metric([str(gpu.index)], gpu.used_bytes)
            total.add_metric([str(gpu.index)], gpu.total_bytes)
            busy.add_metric([str(gpu.index)], gpu.busy)
        yield from (used, total, busy)
