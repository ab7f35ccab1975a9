"""What a network costs before it is trained: counted, and timed layer by layer."""

import json

import keras
import pytest

import kresnet
from kresnet import search
from kresnet.search import layer_times
from kresnet.search.costs import Meter
from kresnet.search.goals import Goal

SPACE = search.Space(
    "resnet20", {"depths[0]": (1, 2), "widths[0]": (8, 16)}, {"widths": (8, 8), "depths": (1, 1), "shortcut": "conv"}
)
SMALL, LARGE = ({"depths[0]": n, "widths[0]": width} for n, width in ((1, 8), (2, 16)))


class Clock:
    """A table that tells which networks it was asked for."""

    def __init__(self):
        self.asked = []

    def milliseconds(self, model):
        self.asked.append(model.count_params())
        return 5.0

    measured = milliseconds

    def calibrate(self, models):
        """By networks that are built only if they are looked at."""


def test_counts_are_those_of_the_network():
    meter = Meter(SPACE, (32, 32, 3), 10, Goal(), None, "table")
    found = kresnet.cost(SPACE.build(LARGE, input_shape=(32, 32, 3), classes=10))
    expected = {"macs": found.macs, "parameters": found.params, "peak_bytes": found.peak_bytes}
    assert meter.costs(LARGE) == expected
    assert meter.allows(LARGE), "there are no limits"


def test_what_is_too_large_is_not_timed():
    sizes = [Meter(SPACE, (32, 32, 3), 10, Goal(), None, "table").costs(point)["macs"] for point in (SMALL, LARGE)]
    goal, clock = Goal(limits={"macs": sum(sizes) / 2, "latency_ms": 6.0}), Clock()
    meter = Meter(SPACE, (32, 32, 3), 10, goal, clock, "table")
    assert meter.allows(SMALL)
    assert not meter.allows(LARGE)
    assert meter.allows(SMALL)
    assert len(clock.asked) == 1, "each once, and only the small one"
    assert meter.costs(SMALL)["latency_ms"] == 5.0
    goal = Goal(limits={"latency_ms": 4.0})
    assert not Meter(SPACE, (32, 32, 3), 10, goal, Clock(), "file").allows(SMALL)


@pytest.fixture
def counted(monkeypatch):
    """Each piece of a network takes a yardstick that lasts two milliseconds."""
    measured = []
    monkeypatch.setattr(layer_times, "_yardsticks", lambda content: measured.append(len(content)) or 1.0)
    monkeypatch.setattr(layer_times, "_entry", lambda: 0.0)
    monkeypatch.setattr(layer_times.LatencyTable, "unit", property(lambda table: 2.0))
    monkeypatch.setattr(layer_times.LatencyTable, "_converted", lambda table, model: b"x" * model.count_params())
    return measured


def test_a_table_measures_a_layer_once_and_keeps_it(counted, tmp_path):
    model = SPACE.build(LARGE, input_shape=(32, 32, 3), classes=10)
    path = tmp_path / "latency.json"
    table = search.latency_table(path, networks=[model], verbose=False)
    assert 0 < len(table) == len(counted) - 1, "the network was measured as a whole, too"
    assert len(layer_times.pieces(model)) > len(table), "two blocks are alike"
    total = table.milliseconds(model)
    assert total == 2.0, "by which the sum is corrected"
    again = search.LatencyTable(path)
    keras.utils.clear_session()
    assert again.milliseconds(SPACE.build(LARGE, input_shape=(32, 32, 3), classes=10)) == total
    again.calibrate([SPACE.build(SMALL, input_shape=(32, 32, 3), classes=10)])
    assert len(counted) == len(again) + 1, "nothing was measured anew"
    assert search.LatencyTable().milliseconds(model) == 2.0 * len(layer_times.pieces(model))
    with pytest.raises(ValueError, match=r"a table of other files. Received: quantize=\(None, 'int8'\)"):
        search.LatencyTable(path, "int8")
    path.write_text(json.dumps({"layers": []}))
    with pytest.raises(ValueError, match=r"is no table of latencies. Received: path="):
        search.LatencyTable(path)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_layers_add_up_to_the_network(quantize):
    """Roughly, on a machine that is busy with other tests; `benchmarks/latency_table.py` has the exact numbers."""
    model = SPACE.build(LARGE, input_shape=(64, 64, 3), classes=10)
    table = search.LatencyTable(quantize=quantize)
    predicted, measured = table.milliseconds(model), table.measured(model)
    assert predicted == pytest.approx(measured, rel=0.5)
    assert 0.01 < measured < 100
