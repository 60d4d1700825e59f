"""What is written as YAML is read as what it was, by a YAML 1.2 reader and by one of 1.1's words."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from probe.rules.block import block

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))) | st.sampled_from(
    ["no", "Yes", "a: b", "- x", "1", "", "a b", "é", "x\ny"]
)
SCALAR = TEXT | st.integers(-(10**9), 10**9) | st.booleans() | st.none() | st.integers(-10000, 10000).map(lambda n: n / 8)
DATA = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(TEXT, DATA, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_data_comes_back(data: dict[str, Any]) -> None:
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(block(data)) == data


def test_it_is_a_block_and_simple_words_are_bare() -> None:
    assert block({"kind": "SLO", "on": ["yes", {"a": 1, "b": []}], "text": "two words"}) == (
        'kind: SLO\n"on":\n  - "yes"\n  - a: 1\n    b: []\ntext: "two words"\n'
    )
