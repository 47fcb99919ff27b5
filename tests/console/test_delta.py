"""Patches between documents: what the page has after them is what the server has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babelcast.console.delta import apply, diff, without_nulls

pytestmark = pytest.mark.unit

_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=3), _values, max_size=5)


@given(documents, documents)
def test_a_patch_makes_the_later_of_the_earlier(before: dict[str, Any], after: dict[str, Any]) -> None:
    patched = apply(before, diff(before, after))
    assert json.dumps(patched, sort_keys=True) == json.dumps(after, sort_keys=True)


@given(documents)
def test_nothing_changed_is_an_empty_patch(document: dict[str, Any]) -> None:
    assert diff(document, dict(document)) == {}


def test_what_goes_is_null_and_lists_are_whole() -> None:
    before = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "flag": True}
    after = {"b": {"c": 2, "d": [1]}, "flag": 1}
    assert diff(before, after) == {"a": None, "b": {"d": [1]}, "flag": 1}


def test_nulls_are_left_out_at_every_depth() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": 0}, "e": [{"f": None}]}) == {"b": {"d": 0}, "e": [{}]}
