"""How the next network is chosen, on a problem whose best point is known."""

import dataclasses

import numpy as np
import pytest

from kresnet.search.attempts import halving, nearest, rungs
from kresnet.search.controller import Controller
from kresnet.search.goals import Goal
from kresnet.search.journal import Trial
from kresnet.search.space import Space
from kresnet.search.strategies import Evolution, Random

SPACE = Space(lambda **choices: None, {f"c{i}": (0, 1, 2, 3) for i in range(6)})


def ended(number, point, accuracy, **more):
    reward = more.pop("reward", accuracy)
    facts = {"costs": {}, "accuracies": {1: accuracy}, "whole": True, "parent": None, "seconds": 1.0} | more
    return Trial(number=number, point=point, accuracy=accuracy, reward=reward, **facts)


def reward_of(point):
    """1 at (0, 1, 2, 3, 0, 1), and 0.25 for a random point on average."""
    return sum(value == i % 4 for i, value in enumerate(point.values())) / 6


def searched(strategy, trials, seed=0):
    tried = []
    for i in range(trials):
        point = strategy(tried, np.random.default_rng([seed, i]), lambda point: all(point != t.point for t in tried))
        tried.append(ended(i, point, reward_of(point)))
    return [trial.reward for trial in tried]


def test_random_learns_nothing():
    rewards = searched(Random(SPACE), 400)
    assert np.mean(rewards) == pytest.approx(0.25, abs=0.03)


def test_evolution_finds_the_best_and_forgets_the_old():
    rewards = [searched(Evolution(SPACE), 100, seed) for seed in range(5)]
    assert np.mean([row[:20] for row in rewards]) < 0.3 < 0.5 < np.mean([row[-30:] for row in rewards])
    # The parent is out of the youngest 20: an older one, however good, has no children.
    good = ended(0, dict.fromkeys(SPACE.choices, 3), 1.0)
    young = [ended(i, dict.fromkeys(SPACE.choices, 0), 0.1) for i in range(1, 21)]
    child = Evolution(SPACE)([good, *young], np.random.default_rng(0), lambda point: True)
    assert sum(value == 0 for value in child.values()) == 5
    child = Evolution(SPACE, population=21, sample=21)([good, *young], np.random.default_rng(0), lambda point: True)
    assert sum(value == 3 for value in child.values()) == 5


@pytest.mark.slow
def test_the_controller_learns_by_reinforce():
    controller = Controller(SPACE, seed=0)
    before = controller.probabilities()
    assert all(share == pytest.approx(0.25, abs=0.05) for shares in before for share in shares)
    rewards = searched(controller, 100)
    assert np.mean(rewards[:20]) < 0.35 < 0.4 < np.mean(rewards[-30:])
    likely = controller.probabilities()
    assert sum(shares.argmax() == i % 4 for i, shares in enumerate(likely)) >= 3, "by chance 1.5"


@pytest.mark.slow
def test_the_controller_knows_what_is_in_the_journal_and_nothing_else():
    trials = [ended(i, SPACE.sample(np.random.default_rng(i)), i / 10) for i in range(6)]
    early, late = Controller(SPACE, seed=0), Controller(SPACE, seed=0)
    for count in (2, 4, 6):
        point = early(trials[:count], np.random.default_rng(count), lambda point: True)
    assert late(trials, np.random.default_rng(6), lambda point: True) == point
    assert early.baseline == late.baseline


def test_the_controller_draws_at_random_where_all_that_it_writes_was_tried():
    space = Space(lambda **choices: None, {"a": tuple(range(4)), "b": tuple(range(64))})
    only = {"a": 3, "b": 5}  # a policy that is not trained writes it once in 256
    found = Controller(space, seed=0)([], np.random.default_rng(0), lambda point: point == only)
    assert found == only


CONTROLLER = """
    import numpy as np
    from types import SimpleNamespace
    from kresnet.search.controller import Controller
    from kresnet.search.space import Space

    space = Space(lambda **choices: None, {"a": (1, 2), "b": ("x", "y", "z")})
    trials = [SimpleNamespace(point={"a": 1 + i % 2, "b": "xyz"[i % 3]}, reward=float(i % 2)) for i in range(12)]
    controller = Controller(space, seed=0)
    point = controller(trials, np.random.default_rng(0), lambda point: True)
    assert space.holds(point), point
    assert controller.probabilities()[0][1] > 0.6, "2 was rewarded"
    print([len(shares) for shares in controller.probabilities()])
"""


@pytest.mark.slow
def test_the_controller_on_jax(on_jax):
    assert on_jax(CONTROLLER).strip() == "[2, 3]"


def test_successive_halving_keeps_a_third():
    assert rungs(9, 3) == [1, 3]
    assert rungs(10, 3) == [1, 3]
    assert rungs(1, 3) == rungs(9, None) == []
    goal, others = Goal({"macs": 100.0}), []
    goes_on = halving(9, 3, goal, {"macs": 100.0}, lambda: others)
    assert goes_on(1, 0.1), "the first one has no rivals"
    others += [
        ended(i, {}, 0.5, costs={"macs": 100.0}, accuracies={1: accuracy}) for i, accuracy in enumerate((0.2, 0.4, 0.6))
    ]
    assert not goes_on(1, 0.3)
    assert goes_on(1, 0.5), "second of four: 4 / 3, rounded up"
    assert goes_on(2, 0.0), "no rung"
    assert goes_on(3, 0.0), "nobody came so far"
    # It is the reward that is compared: half the costs make up for a little accuracy.
    assert not goes_on(1, 0.39)
    assert halving(9, 3, goal, {"macs": 25.0}, lambda: others)(1, 0.39)
    # By the best accuracy until then, though a rival has since trained on.
    others[:] = [dataclasses.replace(other, accuracies={1: 0.2, 3: 0.9}) for other in others]
    assert goes_on(1, 0.3)
    assert not goes_on(3, 0.8)


def test_the_nearest_network_is_inherited_from(tmp_path):
    trials = [
        ended(0, {"a": 1, "b": 1}, 0.9),
        ended(1, {"a": 1, "b": 2}, 0.5),
        ended(2, {"a": 2, "b": 1}, 0.6),
        ended(3, {"a": 2, "b": 2}, 0.9),
    ]
    for number in (0, 1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "best.keras").touch()

    def folder(number):
        return tmp_path / str(number)

    assert nearest({"a": 2, "b": 2}, trials, folder) == (2, folder(2) / "best.keras"), "the nearest one has no file"
    assert nearest({"a": 1, "b": 1}, trials, folder)[0] == 0
    assert nearest({"a": 1, "b": 1}, trials[3:], folder) is None
