"""Reading the config file: every error names the file, the line and the dotted key.

``${NAME}`` in a string is replaced from the environment (``${NAME:-default}`` where it may be absent), so that secrets
stay out of the file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from babelcast.config import Config
from babelcast.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass
class _Document:
    """A parsed YAML document that remembers on which line each key stands."""

    value: Any = None
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def line_of(self, location: tuple[str | int, ...]) -> int | None:
        while location:
            if location in self.lines:
                return self.lines[location]
            location = location[:-1]
        return self.lines.get(())


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check ``path``. Raises ConfigError, which names the first wrong key and its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "no such config file", file=str(path), hint="babelcast up without --config needs none"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the config file: {error}", file=str(path)) from error
    return parse_config(text, file=str(path), environment=environment)


def parse_config(text: str, *, file: str = "babelcast.yaml", environment: Mapping[str, str] = os.environ) -> Config:
    """As :func:`load_config`, from text."""
    document = _parse_yaml(text, file, environment)
    value = document.value if document.value is not None else {}
    if not isinstance(value, dict):
        raise ConfigError("the file must be a mapping of settings", file=file, line=1)
    defaults, streams = value.get("defaults"), value.get("streams")
    if isinstance(streams, dict):
        base = defaults if isinstance(defaults, dict) else {}
        value = value | {"streams": {name: _with_defaults(base, stream) for name, stream in streams.items()}}
    try:
        return Config.model_validate(value)
    except ValidationError as error:
        raise _config_error(error, document, file) from None


def _with_defaults(defaults: dict[str, Any], stream: Any) -> Any:
    """``stream`` over ``defaults``. What is not a mapping is left to be refused by the schema."""
    if stream is None:
        return defaults
    if not isinstance(stream, dict):
        return stream
    return defaults | {
        key: _with_defaults(defaults[key], value) if isinstance(defaults.get(key), dict) and value else value
        for key, value in stream.items()
    }


def _parse_yaml(text: str, file: str, environment: Mapping[str, str]) -> _Document:
    document = _Document()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            document.value = _value(root, (), document, file, environment)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError(f"not valid YAML: {error.problem}", file=file, line=line) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", file=file) from error
    except RecursionError:
        raise ConfigError("nested too deeply, or within itself", file=file) from None
    return document


def _value(
    node: yaml.Node, location: tuple[str | int, ...], document: _Document, file: str, environment: Mapping[str, str]
) -> Any:
    line = node.start_mark.line + 1
    document.lines.setdefault(location, line)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            inner = (*location, key)
            key_line = key_node.start_mark.line + 1
            if key in mapping:
                raise ConfigError("this key is given twice", file=file, line=key_line, key=_dotted(inner))
            document.lines[inner] = key_line
            mapping[key] = _value(value_node, inner, document, file, environment)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*location, index), document, file, environment) for index, item in enumerate(node.value)]
    plain = yaml.SafeLoader("")
    try:
        value = plain.construct_object(node)
    finally:
        plain.dispose()
    return _substitute(value, location, line, file, environment) if isinstance(value, str) else value


def _substitute(
    text: str, location: tuple[str | int, ...], line: int, file: str, environment: Mapping[str, str]
) -> str:
    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise ConfigError(
                f"the environment has no {name}",
                file=file,
                line=line,
                key=_dotted(location),
                hint=f"export {name}=… before starting, or write ${{{name}:-default}}",
            )
        return found

    return _VARIABLE.sub(replace, text)


def _dotted(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def _config_error(error: ValidationError, document: _Document, file: str) -> ConfigError:
    # values are left out: one of them may be a key
    first = error.errors(include_url=False, include_input=False)[0]
    location = tuple(first["loc"])
    # pydantic names the alternatives of a union too (literal[...], tuple[...])
    location = tuple(part for part in location if not (isinstance(part, str) and part.endswith("]")))
    message, hint = first["msg"].removeprefix("Value error, "), None
    if first["type"] == "extra_forbidden":
        message = f"there is no setting {location[-1]!r} here"
        known = _known_keys(location)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    elif first["type"] == "string_pattern_mismatch" and location[:1] == ("streams",) and len(location) == 2:
        message = "a stream's name has small letters, digits, - and _ alone, and begins with a letter or a digit"
    if location[:1] == ("streams",) and len(location) > 2 and location not in document.lines:
        inherited = ("defaults", *location[2:])
        location = inherited if inherited in document.lines else location
    return ConfigError(message, file=file, key=_dotted(location) or None, line=document.line_of(location), hint=hint)


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    """The settings that the schema knows where ``location`` points."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: itself, in a tuple, or as a mapping's value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)
