"""Names and terms that a service must understand and must keep, from a YAML file.

::

    Babelcast:                 # stays as it is in every language
    penalty shoot-out:
      es: tanda de penaltis
      pt-br: disputa de pênaltis
"""

from __future__ import annotations

from pathlib import Path

import yaml

from babelcast.errors import ConfigError
from babelcast.sts.mt.base import Term

_MAX_TERMS = 500


def load_glossary(path: Path) -> tuple[Term, ...]:
    """Raises ConfigError, which names the term that is wrong."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"can't read the glossary: {error}", file=str(path)) from error
    if not isinstance(document, dict) or len(document) > _MAX_TERMS:
        raise ConfigError(f"a glossary is a mapping of at most {_MAX_TERMS} terms", file=str(path))
    return tuple(_term(path, str(source).strip(), targets) for source, targets in document.items())


def _term(path: Path, source: str, targets: object) -> Term:
    if targets is None:
        return Term(source)
    if not source or not isinstance(targets, dict) or not all(isinstance(value, str) for value in targets.values()):
        raise ConfigError("a term is nothing, or a mapping of languages to words", file=str(path), key=source)
    return Term(source, {str(tag).lower(): value.strip() for tag, value in targets.items()})
