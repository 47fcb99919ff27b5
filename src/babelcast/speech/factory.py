"""From a spec to a backend: the one place that knows all of them. Each is loaded only where it is asked for."""

from __future__ import annotations

import os

from babelcast.errors import ConfigError
from babelcast.spec import BackendSpec
from babelcast.speech.base import SpeechBackend


def make_backend(spec: BackendSpec) -> SpeechBackend | None:
    """None for ``none``. Not wrapped: put :class:`babelcast.speech.retry.RetryBackend` round it for a live stream.

    Raises ConfigError where the address or the key is missing or wrong, MissingDependencyError without the package.
    """
    match spec.kind:
        case "none":
            return None
        case "gemini-live":
            return _gemini(spec)
        case "openai-realtime":
            return _openai(spec)
    if not spec.url:
        raise ConfigError(
            f"the backend {spec.kind!r} needs the speech service's address",
            key="speech.url",
            hint="speech.url in babelcast.yaml, or --sts-url; `babelcast up` starts a service of its own",
        )
    if spec.kind == "tone":
        from babelcast.speech.sts_http import StsHttpBackend

        return StsHttpBackend(spec.url, token=_secret(spec))
    from babelcast.speech.sts_stream import StsStreamBackend

    return StsStreamBackend(spec.url, token=_secret(spec))


def _secret(spec: BackendSpec, variable: str | None = None) -> str | None:
    """The spec's token, else that of the environment."""
    if spec.token is not None:
        return spec.token.get_secret_value()
    return os.environ.get(variable) if variable else None


def _gemini(spec: BackendSpec) -> SpeechBackend:
    from babelcast.speech.cost import GEMINI_LIVE, gemini_price
    from babelcast.speech.gemini_live import DEFAULT_MODEL, GeminiSettings, make_gemini

    return make_gemini(
        GeminiSettings(
            _secret(spec, "GEMINI_API_KEY") or "",
            model=spec.model or DEFAULT_MODEL,
            base_url=spec.url,
            price=gemini_price(GEMINI_LIVE, spec.usd_per_m_in, spec.usd_per_m_out),
        )
    )


def _openai(spec: BackendSpec) -> SpeechBackend:
    from babelcast.speech.cost import OPENAI_TRANSLATE, Price
    from babelcast.speech.openai_realtime import DEFAULT_MODEL, DEFAULT_URL, OpenAiSettings, make_openai

    price = OPENAI_TRANSLATE
    if spec.usd_per_minute is not None:
        price = Price.per_minute_in(spec.usd_per_minute, "config")
    return make_openai(
        OpenAiSettings(
            _secret(spec, "OPENAI_API_KEY") or "",
            model=spec.model or DEFAULT_MODEL,
            base_url=spec.url or DEFAULT_URL,
            price=price,
        )
    )
