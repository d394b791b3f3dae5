"""Sources that are about an answer: what of the context is kept."""

import pytest

from textcosm.baselines.settings import RivalConfig
from textcosm.diffusion.denoiser import SourceConfig
from textcosm.errors import ConfigError
from textcosm.tasks import focused

CONTEXT = "Rome is old. It lies on the Tiber, as Ross said! Milan has a dome. Turin makes cars. Bari has a port."


@pytest.mark.parametrize(
    "answer, words, kept",
    [
        ("a dome", 4, "Milan has a dome."),
        ("a dome", 7, "Milan has a dome. Turin makes cars."),
        ("a dome", 12, "It lies on the Tiber, as Ross said! Milan has a dome."),
        ("cars. Bari", 7, "Turin makes cars. Bari has a port."),
        ("Rome", 3, "Rome is old."),
        ("a port", 8, "Turin makes cars. Bari has a port."),
        ("Naples", 3, "Rome is old."),  # which is not there
        ("Tiber", 3, "the Tiber, as"),
        ("It", 3, "It lies on"),
        ("Bari has a port", 2, "Bari has"),
        ("Bari", 99, CONTEXT),
    ],
)
def test_the_sentences_around_the_answer_stay(answer, words, kept):
    assert focused(f"{answer} | {CONTEXT}", words) == f"{answer} | {kept}"


def test_a_source_without_an_answer_stays_as_it_is():
    assert focused(CONTEXT, 3) == CONTEXT
    assert focused(f"cars | {CONTEXT}", None) == f"cars | {CONTEXT}"
    assert focused("cars |  ", 3) == "cars |  " and focused(" | ", 1) == " | "


def test_what_follows_a_second_separator_belongs_to_the_context():
    assert focused("b | a c. x | b d. e f.", 4) == "b | x | b d."


@pytest.mark.parametrize("settings", [SourceConfig, RivalConfig])
def test_no_context_at_all_is_refused(settings):
    with pytest.raises(ConfigError, match="context_words is 0; keep 1 word or more, or None to keep all"):
        settings(context_words=0)
