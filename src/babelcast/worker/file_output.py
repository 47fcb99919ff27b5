"""A file as destination: everything is written, nothing is thrown away, and an error is the end."""

from __future__ import annotations

from babelcast.errors import PublishError
from babelcast.gst.publish import AAC_PRIMING_SAMPLES, PublishPipeline
from babelcast.units import AccessUnit, ns_to_samples, samples_to_ns

_BYTES_PER_SAMPLE = 4
_MAX_PENDING_BYTES = 16 << 20
_FINISH_S = 120.0


class FileOutput:
    """The file begins at the first picture, or at the first sound where there are none. Its writer's queue is
    bounded by the caller, who pushes while ``full`` is false (*pause*)."""

    def __init__(self, path: str, *, audio_bitrate: int) -> None:
        self._path = path
        self._bitrate = audio_bitrate
        self._pipeline: PublishPipeline | None = None
        self._with_video = False
        self._origin_ns = 0
        self._first_sample = 0
        self._written_samples = 0

    @property
    def full(self) -> bool:
        return self._pipeline is not None and self._pipeline.pending_bytes > _MAX_PENDING_BYTES

    @property
    def written_seconds(self) -> float:
        return self._written_samples / 48_000

    def expect_video(self, caps: str) -> None:
        """A file begins with its first picture, so there is nothing to announce."""

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None:
        for unit in units:
            if self._pipeline is None:
                self._open(with_video=True, origin_ns=unit.dts_ns)
            if self._pipeline is not None and self._with_video:
                self._pipeline.push_video(unit, unit.pts_ns - self._origin_ns, unit.dts_ns - self._origin_ns)

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None:
        if self._pipeline is None:
            if video_expected:
                return
            self._open(with_video=False, origin_ns=samples_to_ns(position))
        assert self._pipeline is not None
        skip = max(0, self._first_sample - position)
        samples = len(pcm) // _BYTES_PER_SAMPLE - skip
        if samples > 0:
            start_ns = samples_to_ns(position + skip) - self._origin_ns
            self._pipeline.push_audio(pcm[skip * _BYTES_PER_SAMPLE :], start_ns, samples)
            self._written_samples += samples

    def _open(self, *, with_video: bool, origin_ns: int) -> None:
        self._with_video = with_video
        self._origin_ns = origin_ns
        self._first_sample = ns_to_samples(origin_ns) + AAC_PRIMING_SAMPLES
        self._pipeline = PublishPipeline(
            self._path, with_video=with_video, audio_bitrate=self._bitrate, base_time_ns=None
        )
        self._pipeline.start()

    def check(self) -> None:
        """Raise PublishError when the file can't be written any more."""
        end = self._pipeline.poll_end() if self._pipeline is not None else None
        if end is not None:
            raise PublishError(f"the output can't be written: {end.error or 'it ended early'}", retryable=False)

    async def finish(self) -> None:
        """Write the end of the file. Raises PublishError."""
        if self._pipeline is None:
            raise PublishError("the source had neither pictures nor sound that can be dubbed", retryable=False)
        if not await self._pipeline.finish(_FINISH_S):
            raise PublishError("the output could not be finished within two minutes", retryable=False)

    async def abort(self) -> None:
        """Close without an end. Idempotent."""
        if self._pipeline is not None:
            await self._pipeline.stop()
