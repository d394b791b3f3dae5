"""The rules: what they leave of a source, and as subjects of evaluation."""

import json

import pytest

from textcosm.baselines import rules
from textcosm.errors import ConfigError

SOURCES = ["this is a stupid idea, is it not?", "Idiot! go home (you moron).", "a red cat"]


def test_copying_changes_nothing():
    assert rules.copy(SOURCES) == SOURCES


def test_the_lead_is_the_first_sentence():
    assert rules.lead(["It rained, \"a lot.\" So we left.", " No end", "Why? No.", ""]) == [
        'It rained, "a lot."', "No end", "Why?", "",
    ]  # fmt: skip


def test_toxic_words_are_deleted_and_spaces_mended(monkeypatch):
    asked = []

    def toxicity(words):
        asked.extend(words)
        return [0.9 if word.lower() in ("stupid", "idiot", "moron", "sh*t") else 0.5 for word in words]

    monkeypatch.setattr(rules, "toxicity", toxicity)
    assert rules.delete(SOURCES) == ["this is a idea, is it not?", "go home (you).", "a red cat"]
    assert asked == sorted(set(asked)) and "moron" in asked and "it" in asked
    assert rules.delete(["stupid", "sh*t, no", "so stupid stupid", "no idiot , no"]) == ["", "no", "so", "no, no"]


def test_the_packages_own_classifier_knows_plain_words():
    pytest.importorskip("profanity_check")
    assert rules.delete(["this is a stupid idea."]) == ["this is a idea."]


def test_a_rule_is_a_subject_of_evaluation():
    subject = rules.open_rule("rule:copy", lambda n, seed: SOURCES[seed:][:n])
    assert [text for part in subject.texts(2, 1) for text in part] == SOURCES[1:]
    assert subject.sources is not None and subject.sources(2, 1) == SOURCES[1:]
    assert subject.name == "copy" and json.loads(json.dumps(subject.manifest)) == {"name": "copy", "kind": "rule:copy"}
    assert rules.open_rule("rule:copy", lambda n, seed: SOURCES, "as it is").name == "as it is"


def test_rules_are_named_and_listed():
    assert rules.is_rule("rule:delete") and not rules.is_rule("runs/copy")
    with pytest.raises(ConfigError, match="there is no rule 'rule:shout'; choose one of rule:copy, rule:lead, rule:delete"):
        rules.open_rule("rule:shout", lambda n, seed: SOURCES)
