import numpy as np
import pytest

from lab.radiomics.assess.importance import learning_curve, summarise_learning
from lab.stats.intervals import corrected_t

LABELS = np.array([1] * 20 + [0] * 40)


def test_training_sets_are_nested_stratified_and_apart_from_the_test():
    seen = []

    def remember(train, test):
        seen.append((set(train), set(test)))
        return 0.5

    sizes = [2, 3, 12, 30, 42]
    table = learning_curve(remember, LABELS, sizes=sizes, seeds=[0, 1])
    assert table[["seed", "n"]].to_numpy().tolist() == [[seed, size] for seed in (0, 1) for size in sizes]
    assert (table["test"] == 18).all()
    for number, (train, test) in enumerate(seen):
        assert len(train) == sizes[number % 5]
        assert not train & test
        ones = sum(LABELS[list(train)])
        assert abs(ones - len(train) / 3) <= 1
        assert 1 <= ones < len(train)
        if number % 5:
            assert seen[number - 1][0] < train
            assert seen[number - 1][1] == test
    assert seen[0][1] != seen[5][1]
    again = list(seen)
    seen.clear()
    learning_curve(remember, LABELS, sizes=sizes, seeds=[0, 1])
    assert seen == again


def test_the_smallest_training_set_of_a_rare_class_has_both():
    labels = np.array([1] * 3 + [0] * 57)
    found = []
    learning_curve(lambda train, _: found.append(labels[train].mean()) or 0.5, labels, sizes=[2, 3], seeds=range(5))
    assert found == pytest.approx([1 / 2, 1 / 3] * 5)


def test_more_patients_help_and_the_summary_is_the_corrected_t():
    rng = np.random.default_rng(0)
    signal = LABELS * 0.8 + rng.normal(size=60)

    def closeness(train, test):
        return 1 / (1 + abs(signal[train].mean() - signal.mean()))

    table = learning_curve(closeness, LABELS, sizes=[3, 40], seeds=range(10))
    found = summarise_learning(table)
    assert found["n"].tolist() == [3, 40]
    assert found["seeds"].tolist() == [10, 10]
    assert found["mean"].is_monotonic_increasing
    last = corrected_t(table.loc[table["n"] == 40, "score"], train=40, test=18)
    np.testing.assert_allclose(found.iloc[1][["mean", "low", "high"]].to_numpy(float), last[:3])


@pytest.mark.parametrize(
    ("labels", "sizes", "words"),
    [(LABELS, [1, 5], "2 to 42"), (LABELS, [43], "2 to 42"), (LABELS, [], "2 to 42"), ([1, 0, 0], [2], "too few"),
     ([1, 0, 3], [2], "0 or 1")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(labels, sizes, words):
    with pytest.raises(ValueError, match=words):
        learning_curve(lambda train, test: 0.5, labels, sizes=sizes, seeds=[0])
