"""Settings to JSON and back, and what is said of settings that do not exist."""

import json
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from textcosm.config import Config, differences, from_dict
from textcosm.errors import ConfigError


@dataclass(frozen=True)
class Leaf:
    width: int = 4
    rate: float = 0.5
    name: str | None = None
    mode: Literal["a", "b"] = "a"
    betas: tuple[float, float] = (0.9, 0.98)
    names: tuple[str, ...] = ()
    fast: bool = False


@dataclass(frozen=True)
class Tree:
    leaf: Leaf = field(default_factory=Leaf)
    seed: int = 0


def test_round_trip_through_json():
    config = replace(Config(), schedule=replace(Config().schedule, d=7.0))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict({}) == Config()


def test_every_kind_of_field():
    values = {"leaf": {"rate": 1, "name": "x", "mode": "b", "betas": [0.5, 1], "names": ["p", "q"], "fast": True}}
    found = from_dict(Tree, values)
    assert found.leaf == Leaf(4, 1.0, "x", "b", (0.5, 1.0), ("p", "q"), True)
    assert isinstance(found.leaf.rate, float) and isinstance(found.leaf.betas, tuple)
    assert from_dict(Tree, {"leaf": {"name": None}}).leaf.name is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"leef": {}}, "unknown setting 'leef'; there are leaf, seed"),
        ({"leaf": {"wdith": 3}}, "unknown setting 'leaf.wdith'; there are betas, fast"),
        ({"leaf": {"width": "3"}}, "leaf.width is '3'; it must be a whole number"),
        ({"leaf": {"width": True}}, "leaf.width is True; it must be a whole number"),
        ({"leaf": {"rate": "x"}}, "leaf.rate is 'x'; it must be a number"),
        ({"leaf": {"name": 3}}, "leaf.name is 3; it must be a string"),
        ({"leaf": {"mode": "c"}}, "leaf.mode is 'c'; it must be one of 'a', 'b'"),
        ({"leaf": {"betas": [1]}}, r"leaf.betas is \[1\]; it must be a list of 2"),
        ({"leaf": {"betas": 1}}, "leaf.betas is 1; it must be a list"),
        ({"leaf": {"fast": "yes"}}, "leaf.fast is 'yes'; it must be true or false"),
        ({"leaf": 3}, "leaf is 3; give a table of fields"),
        ([1], r"the configuration is \[1\]; give a table of fields"),
    ],
)
def test_wrong_settings_name_themselves(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Tree, values)


def test_the_owner_of_a_setting_checks_its_range():
    with pytest.raises(ConfigError, match="num_latents is 0"):
        Config.from_dict({"autoencoder": {"num_latents": 0}})


def test_differences_are_named_with_dots():
    ours = {"leaf": {"width": 4, "betas": (1, 2)}, "seed": 0, "new": None}
    assert differences(ours, {"leaf": {"width": 4, "betas": [1, 2]}, "seed": 0, "new": None}) == []
    theirs = {"leaf": {"width": 5, "betas": [1, 3]}, "seed": 0, "old": 1}
    assert differences(ours, theirs) == ["leaf.width", "leaf.betas", "new", "old"]
