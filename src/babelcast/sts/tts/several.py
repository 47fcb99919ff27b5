"""Several synthesizers as one: a language is spoken by the first that has a voice for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from babelcast.errors import UnsupportedLanguageError
from babelcast.sts.tts.base import Gender, Speech, Synthesizer
from babelcast.wire import Voice


class Synthesizers:
    """See :class:`babelcast.sts.tts.base.Synthesizer`. Resolved voices carry their member's number: ``1/es+f2``."""

    def __init__(self, members: Sequence[Synthesizer]) -> None:
        self._members = tuple(members)

    @property
    def name(self) -> str:
        return ", ".join(member.name for member in self._members)

    @property
    def voices(self) -> tuple[Voice, ...]:
        return tuple(voice for member in self._members for voice in member.voices)

    def preload(self) -> None:
        for member in self._members:
            member.preload()

    def resolve(self, language: str, voice: str | None) -> str:
        return self._first(lambda member: member.resolve(language, voice))

    def pick(self, language: str, speaker: int, gender: Gender | None = None) -> str:
        return self._first(lambda member: member.pick(language, speaker, gender))

    def _first(self, ask: Callable[[Synthesizer], str]) -> str:
        refusal: UnsupportedLanguageError | None = None
        for number, member in enumerate(self._members):
            try:
                return f"{number}/{ask(member)}"
            except UnsupportedLanguageError as error:
                refusal = error
        raise refusal or UnsupportedLanguageError("there is no synthesizer", code="unsupported_language")

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        number, _, name = voice.partition("/")
        return self._members[int(number)].speak(text, name, target_s)

    def close(self) -> None:
        for member in self._members:
            member.close()
