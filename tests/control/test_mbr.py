"""Of several candidates, the one that the others agree with."""

import sys

import pytest

from textcosm.control.mbr import chooser
from textcosm.errors import ConfigError

BIRD, BIRDS, OTHER = "The bird ate the red seed.", "The birds ate the red seed.", "Nobody was at home on Monday."


def test_the_odd_one_is_not_chosen():
    assert chooser(3)([OTHER, BIRD, BIRDS]) in (BIRD, BIRDS)
    assert chooser(4)([OTHER, BIRD, "", BIRD]) == BIRD


def test_the_middle_of_three_is_chosen():
    assert chooser(3)(["a b c d x y", "a b c d e f", "u v c d e f"]) == "a b c d e f"


@pytest.mark.parametrize("texts", [[OTHER], [OTHER, BIRD], ["", "", ""]])
def test_of_equals_the_first(texts):
    assert chooser(len(texts))(texts) == texts[0]


def test_below_one_and_without_sacrebleu(monkeypatch):
    with pytest.raises(ConfigError, match="mbr is 0; choose among at least 1"):
        chooser(0)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    assert chooser(2)([BIRD, OTHER]) == BIRD
    with pytest.raises(ConfigError, match=r"mbr needs sacrebleu.*textcosm\[eval\]"):
        chooser(3)
