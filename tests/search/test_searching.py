"""A search from its call to its folder: what is kept, what a kill costs, and several processes at once."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import pytest

from kresnet import search
from kresnet.search import journal, report, strategies
from kresnet.search.goals import Goal
from kresnet.search.searching import DATABASE, SETTINGS


def tiny(width, kernel, depth, input_shape, classes):
    """A network that is built in milliseconds, of which none is trained here."""
    x = image = keras.Input(input_shape)
    for _ in range(depth):
        x = keras.layers.Conv2D(width, kernel, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x))


SPACE = search.Space(tiny, {"width": (1, 2, 3, 4), "kernel": (1, 3, 5), "depth": (1, 2, 3)})
OPTIONS = {"epochs": 1, "image_size": 8, "classes": 3, "verbose": False}


def score(attempt):
    """Wide networks are better, and those of even depth a little."""
    attempt.go_on(1, 0.2 * attempt.point["width"] + 0.05 * (attempt.point["depth"] == 2))


class Killed(KeyboardInterrupt):
    """As Ctrl-C does, in the middle of a network."""


def killed_at(number):
    def scored(attempt):
        if attempt.number == number:
            raise Killed
        score(attempt)

    scored.__qualname__ = "score"
    return scored


def points(found):
    return [trial.point for trial in found.trials]


@pytest.mark.parametrize(
    ("strategy", "trials", "kills"),
    [
        ("evolution", 8, (0, 6)),
        ("tpe", 12, (11,)),  # which draws ten at random first
        pytest.param("controller", 6, (0, 3), marks=pytest.mark.thorough),
    ],
)
def test_a_search_that_was_cut_short_is_the_search_that_was_not(strategy, trials, kills, tmp_path, monkeypatch):
    monkeypatch.setattr(strategies.Evolution.__init__, "__defaults__", (4, 2))
    options = OPTIONS | {"strategy": strategy, "limits": {"parameters": 200}, "targets": {"macs": 1000.0}}
    whole = search.run(SPACE, score, trials, out=tmp_path / "whole", **options)
    for number in kills:
        with pytest.raises(Killed):
            search.run(SPACE, killed_at(number), trials, out=tmp_path / "killed", resume=True, **options)
    found = search.run(SPACE, score, trials, out=tmp_path / "killed", resume=True, **options)
    assert points(found) == points(whole)
    assert len({str(point) for point in points(whole)}) == trials, "none twice"
    assert all(trial.costs["parameters"] <= 200 for trial in whole.trials)
    assert found.best.point == whole.best.point
    assert found.best.reward == max(trial.accuracy * (trial.costs["macs"] / 1000) ** -0.07 for trial in found.trials)
    assert found.best in found.front


def test_a_search_goes_on_with_a_larger_budget_and_by_no_other_settings(tmp_path, capsys):
    first = search.run(SPACE, score, 2, out=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match=r"holds a search already.*Received: out="):
        search.run(SPACE, score, 2, out=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match=r"a search with other settings\. Received: seed=\(0, 1\)"):
        search.run(SPACE, score, 2, out=tmp_path, seed=1, resume=True, **OPTIONS)
    budget = search.Budget(trials=3, hours=1.0)
    more = search.run(SPACE, score, budget, out=tmp_path, resume=True, **OPTIONS | {"verbose": True})
    assert points(more)[:2] == points(first)
    assert len(more.trials) == 3
    line = capsys.readouterr().out.strip()
    assert line.startswith("trial 2: accuracy ")
    assert line.endswith("; about 0 s left")
    for folder in (tmp_path, tmp_path / "new"):
        again = search.run(SPACE, score, 1, out=folder, seed=1, overwrite=True, **OPTIONS)
        assert len(again.trials) == 1


def test_a_space_that_is_tried_out_ends_early(tmp_path, capsys):
    few = search.Space(tiny, {"width": (1, 2), "kernel": (1, 3)}, {"depth": 1})
    found = search.run(few, lambda attempt: attempt.go_on(1, 0.5), 100, out=tmp_path, strategy="tpe", **OPTIONS)
    assert len(found.trials) == 4
    assert "The search ends early" in capsys.readouterr().err


def test_hours_that_are_over_end_a_search(tmp_path):
    def slow(attempt):
        time.sleep(0.3)
        score(attempt)

    found = search.run(SPACE, slow, search.Budget(hours=1 / 3600), out=tmp_path, **OPTIONS)
    assert 1 <= len(found.trials) <= 3
    start = time.monotonic()
    found = search.run(SPACE, slow, search.Budget(hours=1e-5), out=tmp_path, resume=True, **OPTIONS)
    assert time.monotonic() - start < 20
    assert len(found.trials) <= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "evolutoin"}, "Did you mean 'evolution'"),
        ({"budget": search.Budget}, "`trials` must be an integer"),
        ({"budget": 0}, "`trials` must be an integer of at least 1"),
        ({"reduction": 1}, "`reduction` must be an integer of at least 2"),
        ({"space": "mobile"}, "`space` must be a Space"),
        ({"data": "digits"}, "Training needs a network of the registry"),
        ({"data": lambda attempt: None}, "`data` must call `go_on`"),
        ({"flip": False}, "takes no options of training. Received: flip=False"),
        ({"limits": {"parameters": 1}}, "No network was trained to the end within the budget"),
        ({"resume": True, "overwrite": True}, "Only one can be True"),
    ],
)
def test_calls_that_make_no_sense(arguments, message, tmp_path):
    given = {"space": SPACE, "data": score, "budget": 1, "out": tmp_path} | OPTIONS | arguments
    with pytest.raises(ValueError, match=message):
        search.run(given.pop("space"), given.pop("data"), given.pop("budget"), **given)


def test_optuna_reads_the_journal(tmp_path):
    import optuna

    search.run(SPACE, score, 3, out=tmp_path, **OPTIONS)
    study = optuna.load_study(study_name=journal.STUDY, storage=f"sqlite:///{tmp_path / DATABASE}")
    assert len(study.trials) == 3
    assert study.best_value == max(0.2 * t.params["width"] + 0.05 * (t.params["depth"] == 2) for t in study.trials)
    assert json.loads((tmp_path / SETTINGS).read_text()) == study.user_attrs["settings"]


def test_what_a_lost_machine_was_at_is_tried_again(tmp_path, monkeypatch):
    """Its process cannot be looked for: it is lost when it has given no sign of life for a while."""
    monkeypatch.setattr(journal, "_machine", lambda: "another")
    with pytest.raises(Killed):
        search.run(SPACE, killed_at(0), 3, out=tmp_path, **OPTIONS)
    monkeypatch.undo()
    monkeypatch.setattr(journal, "GRACE", 1)
    found = search.run(SPACE, score, 3, out=tmp_path, resume=True, **OPTIONS | {"verbose": True})
    assert len(found.trials) == 3


def test_processes_that_begin_at_once_share_one_journal(tmp_path):
    """Optuna alone creates each table where none was a moment ago: the second fails."""
    together = threading.Barrier(4)

    def opened(settings):
        together.wait(timeout=60)
        return journal.Journal(f"sqlite:///{tmp_path / 'shared.db'}", settings, Goal({}, (-0.07, -0.07), {}))

    with ThreadPoolExecutor(4) as pool:
        journals = list(pool.map(opened, [{"choices": {"width": [1, 2]}}] * 4))
    assert len({one.study._study_id for one in journals}) == 1
    assert {len(one.trials()) for one in journals} == {0}


WORKER = """
    import os, pathlib, sys, time
    import test_searching as here
    from kresnet import search

    def scored(attempt):
        with open(sys.argv[2], "a") as log:
            print(os.getpid(), attempt.number, *attempt.point.values(), file=log)
        while len({line.split()[0] for line in open(sys.argv[2])}) < 2:
            time.sleep(0.1)  # the other has not started yet
        time.sleep(0.5)
        here.score(attempt)

    scored.__qualname__ = "score"
    search.run(
        here.SPACE, scored, 14, out=sys.argv[1], resume=True, strategy="evolution", storage=sys.argv[3], **here.OPTIONS
    )
"""


@pytest.mark.slow
def test_two_processes_one_of_which_is_killed(tmp_path):
    """No network is lost, and none is tried twice but the one that the killed process was at."""
    log, url = tmp_path / "log", f"sqlite:///{tmp_path / 'shared.db'}"
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path / "out"), str(log), url]
    # JAX's client starts soonest, and nothing is computed.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    try:
        rows = []
        for _ in range(300):
            assert all(process.poll() is None for process in both)
            rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
            if len({row[0] for row in rows}) == 2 and len(rows) >= 5:
                break
            time.sleep(0.1)
        killed = both[0]
        time.sleep(0.1)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert both[1].wait(timeout=120) == 0
    finally:
        for process in both:
            process.kill()
            process.wait()
    rows = [line.split() for line in log.read_text().splitlines()]
    assert {int(row[0]) for row in rows} == {process.pid for process in both}
    found = search.run(
        SPACE, score, 14, out=tmp_path / "out", resume=True, strategy="evolution", storage=url, **OPTIONS
    )
    tried = [tuple(map(str, point.values())) for point in points(found)]
    assert len(tried) == len(set(tried)) == 14
    begun = [tuple(row[2:]) for row in rows]
    assert len(begun) <= 15, "what the killed process was at, and nothing else, was tried twice"
    assert set(begun) == set(tried)


def test_the_report_in_a_browser(browser, tmp_path):
    def rising(attempt):
        for epoch in range(1, 10):
            if not attempt.go_on(epoch, 0.04 * epoch + 0.1 * attempt.point["table[0].n"]):
                return

    space = search.mobile(
        table=[(1, 8, 1, 1), (3, 16, 2, 2)], stem_width=8, head_width=32, widths=(0.5, 1.0), squeezes=(0.0, 0.25)
    )
    options = {"strategy": "nsga2", "image_size": 16, "classes": 5, "verbose": False}
    bounds = {"targets": {"macs": 1e5}, "limits": {"parameters": 1e6}}
    found = search.run(space, rising, 8, out=tmp_path, **options, **bounds)
    path = tmp_path / report.FILE
    browser.errors()
    browser.get(path.as_uri())
    assert browser.title == "Search: report"
    assert browser.errors() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [path.as_uri()]
    assert browser.texts("h1") == ["mobilenetv2_100: 8 networks tried"]
    assert browser.texts("figcaption") == ["Accuracy against multiply-adds", "Accuracy against parameters"]
    place = """
        const plot = document.querySelector(`#macs .plot`).getBoundingClientRect();
        return [...document.querySelectorAll("#macs a.dot")].map((dot) => {
            const box = dot.getBoundingClientRect();
            const number = dot.getAttribute("aria-label").split(" ")[1];
            return [Number(number), dot.className, box.x + box.width / 2 - plot.x, box.y + box.height / 2 - plot.y];
        });
    """
    dots = {number: (kind, x, y) for number, kind, x, y in browser.execute_script(place)}
    assert len(dots) == 8
    trials = {trial.number: trial for trial in found.trials}
    for one in trials:  # to the right are more multiply-adds, and above higher accuracies
        for other in trials:
            if trials[one].costs["macs"] > trials[other].costs["macs"]:
                assert dots[one][1] > dots[other][1]
            if trials[one].accuracy > trials[other].accuracy + 1e-6:
                assert dots[one][2] < dots[other][2]
    fronts = [trial.number for trial in found.front]
    assert {number for number, (kind, _, _) in dots.items() if "front" in kind} == set(fronts)
    given = {number for number, (kind, _, _) in dots.items() if "given" in kind}
    assert given == {trial.number for trial in found.trials if not trial.whole} != set()
    # A click on a network of the front leads to its table of stages.
    browser.find_element("css selector", f'#macs a.front[aria-label="network {found.best.number}"]').click()
    assert browser.current_url.endswith(f"#stages-{found.best.number}")
    assert browser.texts("details[open] thead th") == "stage expansion channels blocks stride kernel squeeze".split()
    rows = browser.texts("details[open] tbody td")
    spec = space.spec(found.best.point)
    assert rows[:7] == ["2", "1", *map(str, (spec.table[0].c, spec.table[0].n, 1, spec.table[0].k)), rows[6]]
    assert len(browser.texts("#all tbody tr")) == 8
