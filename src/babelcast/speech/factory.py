"""From a spec to a backend: the one place that knows all of them."""

from __future__ import annotations

from babelcast.errors import ConfigError
from babelcast.spec import BackendSpec
from babelcast.speech.base import SpeechBackend
from babelcast.speech.sts_http import StsHttpBackend
from babelcast.speech.sts_stream import StsStreamBackend


def make_backend(spec: BackendSpec) -> SpeechBackend | None:
    """None for ``none``. Not wrapped: put :class:`babelcast.speech.retry.RetryBackend` round it for a live stream.

    Raises ConfigError where the address is missing or wrong.
    """
    if spec.kind == "none":
        return None
    if not spec.url:
        raise ConfigError(f"the backend {spec.kind!r} needs the speech service's address", key="backend.url")
    token = spec.token.get_secret_value() if spec.token else None
    if spec.kind == "tone":
        return StsHttpBackend(spec.url, token=token)
    return StsStreamBackend(spec.url, token=token)
