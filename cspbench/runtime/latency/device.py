"""Estimates for a memory-bound device: the time of a step if only reading weights took time.

Never a measurement: nothing here is timed, and every result carries the word "estimate".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from cspbench.errors import ConfigError
from cspbench.hyper import Frozen
from cspbench.result import Latency


class DeviceProfile(Frozen):
    """A device whose speed is limited by its memory.

    Attributes:
        name: of the device.
        memory: that holds its weights, e.g. ``"quad SPI flash"``.
        read_mb_per_s: bandwidth of reading them, 10^6 bytes a second.
        on_chip_bytes: weights that stay in fast memory for good, and so cost no reading.
        overhead_us: microseconds of every step beside reading.
        source: origin of the numbers.
    """

    name: str = Field(min_length=1)
    memory: str = Field(min_length=1)
    read_mb_per_s: float = Field(gt=0)
    on_chip_bytes: int = Field(0, ge=0)
    overhead_us: float = Field(0.0, ge=0)
    source: str = Field(min_length=1, description="data sheet, measurement, or 'an example'")


class DeviceEstimate(Frozen):
    """Estimated time of one engine's step on a device.

    Attributes:
        kind: always ``"estimate, not a measurement"``.
        step_ms: milliseconds a step, on average with the labels emitted.
        real_time: the estimate is below the audio a step covers.
        step_bytes: bytes of weights the step reads, those that stay on the chip included.
    """

    kind: Literal["estimate, not a measurement"] = "estimate, not a measurement"
    step_ms: float
    real_time: bool
    step_bytes: float


def load_profile(path: Path) -> DeviceProfile:
    """Read a profile (YAML).

    Raises:
        ConfigError: a file that cannot be read or is no profile; names the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the device profile {path}: {error}") from error
    try:
        return DeviceProfile.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'the file'}: {p['msg']}" for p in error.errors())
        keys = ", ".join(DeviceProfile.model_fields)
        raise ConfigError(f"{path} is no device profile: {problems} (its keys are {keys})") from error


def estimate(profile: DeviceProfile, step_bytes: float, step_ms: float) -> DeviceEstimate:
    """Estimate a step that reads so many bytes of weights.

    Time is overhead plus what must be read, over the bandwidth. Arithmetic is taken to hide behind reading, so that
    this is the least a step can take. What stays on the chip is taken off all at once: it holds what every step reads.

    Args:
        profile: the device.
        step_bytes: bytes of weights a step reads.
        step_ms: audio a step covers, milliseconds.
    """
    read = max(0.0, step_bytes - profile.on_chip_bytes)
    milliseconds = profile.overhead_us / 1000 + read / (profile.read_mb_per_s * 1000)
    return DeviceEstimate(step_ms=milliseconds, real_time=milliseconds < step_ms, step_bytes=step_bytes)


def estimates(profile: DeviceProfile, engines: Mapping[str, Latency], step_ms: float) -> dict[str, Any]:
    """Estimates for what each engine's weights would take, with the profile they are made from."""
    each = {
        name: estimate(profile, engine.step_bytes, step_ms).model_dump(mode="json")
        for name, engine in engines.items()
        if engine.step_bytes is not None
    }
    return {"kind": "estimate, not a measurement", "profile": profile.model_dump(mode="json"), "engines": each}
