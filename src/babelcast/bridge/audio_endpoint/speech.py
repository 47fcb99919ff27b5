"""``/say``: text that the speech service speaks."""

from __future__ import annotations

import asyncio
import base64
import json

import aiohttp
import numpy as np
import soxr
from pydantic import ValidationError

from babelcast.audio.pcm import from_s16le
from babelcast.bridge.audio_endpoint.queue import SpeechQueue
from babelcast.bridge.audio_endpoint.settings import AudioSettings
from babelcast.errors import BabelcastError, SpeechError, SpeechProtocolError, SpeechUnavailableError, why
from babelcast.http_client import read_at_most
from babelcast.units import RATE, Pcm
from babelcast.wire import SPEAK_PATH, SpeakRequest, SpeakResponse

_TIMEOUT = aiohttp.ClientTimeout(total=20.0, sock_connect=3.0)
_MOST_BYTES = 32 << 20
_RETRY_S = 2.0


class Hushed(BabelcastError):
    """The text was forgotten before it could be said."""


class Speaker:
    """What is asked for is spoken in the order in which it was asked."""

    def __init__(self, settings: AudioSettings, session: aiohttp.ClientSession) -> None:
        self.queue = SpeechQueue(settings.speech_s, settings.max_utterances)
        self.failed = 0
        self._url = settings.speech_url.rstrip("/") if settings.speech_url else None
        token = settings.speech_token
        self._headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._session = session
        self._most = settings.max_utterances
        self._asked = 0
        self._wanted: set[object] = set()
        """Of those that were asked, the ones that nobody has forgotten."""
        self._turn = asyncio.Lock()

    async def say(self, wanted: SpeakRequest) -> tuple[float, float]:
        """Seconds until it is heard, and its length. Raises SpeechUnavailableError (``overloaded``: too much waits
        already; or no speech service answers), SpeechError, as the speech service refused it, and Hushed."""
        if self._url is None:
            raise SpeechUnavailableError("no speech service is configured", hint="set AUDIO_STS_URL")
        if self._asked + self.queue.count >= self._most or not self.queue.room():
            raise SpeechUnavailableError(
                f"{self.queue.seconds:.0f} s of speech wait already", code="overloaded", retry_after_s=_RETRY_S
            )
        self._asked += 1
        this = object()
        self._wanted.add(this)
        try:
            async with self._turn:
                self._expect(this)
                samples = await self._spoken(wanted)
            self._expect(this)
        except SpeechError:
            self.failed += 1
            raise
        finally:
            self._asked -= 1
            self._wanted.discard(this)
        return self.queue.put(samples), len(samples) / RATE

    def _expect(self, this: object) -> None:
        if this not in self._wanted:
            raise Hushed("it was forgotten before it could be said")

    def hush(self) -> int:
        """Say nothing more, also of what the speech service still works on. Returns how many texts that were."""
        count = len(self._wanted) + self.queue.clear()
        self._wanted.clear()
        return count

    async def _spoken(self, wanted: SpeakRequest) -> Pcm:
        assert self._url is not None
        try:
            async with self._session.post(
                self._url + SPEAK_PATH, data=wanted.model_dump_json(), headers=self._headers, timeout=_TIMEOUT
            ) as answer:
                data = await read_at_most(answer, _MOST_BYTES)
                if answer.status != 200:
                    raise _refused(answer.status, data)
            found = SpeakResponse.model_validate_json(data)
            samples = from_s16le(base64.b64decode(found.audio, validate=True), 1)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SpeechUnavailableError(f"the speech service does not answer: {why(error)}") from error
        except (ValidationError, ValueError) as error:
            raise SpeechProtocolError("the speech service answered with something else than speech") from error
        resampled: Pcm = np.asarray(soxr.resample(samples, found.sample_rate, RATE), np.float32)
        return resampled


def _refused(status: int, data: bytes) -> SpeechError:
    try:
        problem = json.loads(data)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "internal", f"status {status}"
    if code == "unauthorized":
        return SpeechError("the speech service does not take our token", code="internal", hint="set AUDIO_STS_TOKEN")
    kind = SpeechUnavailableError if status in (429, 502, 503, 504) else SpeechError
    return kind(f"speech service: {detail}", code=code)
