"""Where models run, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from babelcast.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Compute:
    """``device`` auto takes a GPU where CTranslate2 finds one. ``kind`` is CTranslate2's compute type, or ``auto``:
    int8 on a CPU, int8_float16 on a GPU. ``threads`` is for one model on a CPU; 0 leaves it to the library."""

    device: Device = "auto"
    kind: str = "auto"
    threads: int = 0

    def device_name(self) -> str:
        """``cpu`` or ``cuda``. Raises ConfigError where a GPU is asked for that is not there."""
        import ctranslate2

        gpus = ctranslate2.get_cuda_device_count()
        if self.device == "cuda" and not gpus:
            raise ConfigError("--device cuda: CTranslate2 finds no GPU here", hint="nvidia-smi; or --device cpu")
        return "cuda" if gpus and self.device != "cpu" else "cpu"

    def type_name(self) -> str:
        """Raises ConfigError for a precision that the device has not."""
        import ctranslate2

        device = self.device_name()
        if self.kind == "auto":
            return "int8" if device == "cpu" else "int8_float16"
        supported = ctranslate2.get_supported_compute_types(device)
        if self.kind not in supported:
            raise ConfigError(
                f"--compute-type {self.kind} does not run on this {device}",
                hint=f"here: {', '.join(sorted(supported))}",
            )
        return self.kind
