"""What changed between two documents, as a JSON merge patch (RFC 7386). Pure.

A null in a patch takes a key out, so the documents themselves must hold none: see :func:`without_nulls`. Lists are
replaced as a whole; what is to change piece by piece belongs into a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def without_nulls(document: Any) -> Any:
    """The same, with every key left out whose value is null."""
    if isinstance(document, Mapping):
        return {key: without_nulls(value) for key, value in document.items() if value is not None}
    if isinstance(document, list | tuple):
        return [without_nulls(value) for value in document]
    return document


def diff(before: Document, after: Document) -> dict[str, Any]:
    """The patch that makes ``after`` of ``before``; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in before.keys() - after.keys()}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            inner = diff(before[key], value)
            if inner:
                patch[key] = inner
        elif repr(value) != repr(before[key]):  # by ==, 1 would be True
            patch[key] = value
    return patch


def apply(before: Document, patch: Document) -> dict[str, Any]:
    """What the page does with a patch."""
    after = dict(before)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        elif isinstance(value, Mapping):
            known = after.get(key)
            after[key] = apply(known if isinstance(known, Mapping) else {}, value)
        else:
            after[key] = value
    return after
