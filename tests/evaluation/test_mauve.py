"""MAUVE against the library's own value, on stored features and from a judge's reading."""

import numpy as np
import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.mauve import Mauve, mauve, t_interval
from textcosm.evaluation.results import Interval

library = pytest.importorskip("mauve")


def _features(count, seed, shift=0.0):
    return (np.random.default_rng(seed).normal(size=(count, 6)) + shift).astype(np.float32)


def test_one_draw_of_all_texts_is_the_librarys_value():
    ours, theirs = _features(60, 0), _features(60, 1, shift=0.8)
    expected = library.compute_mauve(p_features=ours, q_features=theirs)
    found = mauve(ours, theirs, draws=1)
    assert 0.01 < expected.mauve < 0.9
    assert found.value.value == pytest.approx(expected.mauve, abs=1e-6)
    assert found.buckets == expected.num_buckets == 6
    assert found.value.low == found.value.high == found.value.value


def test_a_draw_is_the_librarys_value_of_what_it_took():
    ours, theirs = _features(25, 0), _features(90, 1, shift=0.5)
    found = mauve(ours, theirs, draws=2, seed=7)
    rng = np.random.default_rng([7, 1])
    rng.choice(25, 25, replace=False)  # the generated texts are drawn first: all of them, in their order
    taken = np.sort(rng.choice(90, 25, replace=False))
    expected = library.compute_mauve(p_features=ours, q_features=theirs[taken], seed=25 + 7001)
    assert found.draws[1] == pytest.approx(expected.mauve, abs=1e-6)
    assert found.size == 25


def test_the_value_is_the_mean_of_the_draws_and_comes_back_the_same():
    ours, theirs = _features(30, 0), _features(90, 1, shift=0.5)
    found = mauve(ours, theirs, draws=3)
    assert len(set(found.draws)) > 1
    assert found.value == t_interval(list(found.draws))
    assert found == mauve(ours, theirs, draws=3)
    assert found.draws != mauve(ours, theirs, draws=3, seed=1).draws
    assert mauve(ours, theirs, draws=2).draws == found.draws[:2]
    assert isinstance(found, Mauve) and found.to_dict()["size"] == 30


def test_students_interval():
    # three draws: t = 4.303, standard deviation 0.1
    found = t_interval([0.4, 0.5, 0.6])
    assert found.value == pytest.approx(0.5)
    assert found.high - found.value == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert t_interval([0.3]) == Interval(0.3, 0.3, 0.3)


def test_rows_without_features_are_left_out_and_counted():
    ours, theirs = _features(42, 0), _features(40, 1)
    holed = ours.copy()
    holed[[3, 30]] = np.nan
    found = mauve(holed, theirs, draws=1)
    assert (found.excluded, found.excluded_references, found.size) == (2, 0, 40)
    assert found.value == mauve(np.delete(ours, [3, 30], axis=0), theirs, draws=1).value


def test_few_texts_are_noted_and_fewer_refused():
    enough = _features(20, 0)
    found = mauve(enough, _features(33, 1), draws=1, size=30)
    assert found.size == 20 and found.note == "rough: from 20 texts on a side, where 500 or more are wanted"
    with pytest.raises(DataError, match="at least 20 generated texts that are not empty and got 19: give more"):
        mauve(enough[:19], enough)
    with pytest.raises(DataError, match="at least 20 references"):
        mauve(enough, enough[:5])


def test_other_judges_and_odd_settings_are_refused():
    features = _features(20, 0)
    with pytest.raises(DataError, match="features 6 and 5 wide"):
        mauve(features, features[:, :5])
    with pytest.raises(DataError, match="1 axes"):
        mauve(features[0], features)
    with pytest.raises(ConfigError, match="0 draws"):
        mauve(features, features, draws=0)
    with pytest.raises(ConfigError, match="of 19 texts"):
        mauve(features, features, size=19)


@pytest.mark.parametrize("module", ["faiss", "mauve"])
def test_a_missing_package_names_the_remedy(monkeypatch, module):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module}.*pip install 'textcosm\[eval\]'"):
        mauve(_features(20, 0), _features(20, 1))


def test_faiss_is_left_as_it_was(capfd):
    import faiss

    before = faiss.Kmeans
    mauve(_features(20, 0), _features(20, 1), draws=1)
    assert faiss.Kmeans is before and capfd.readouterr().err == ""
