"""What may be chosen: every sample builds, or is never drawn."""

import json

import numpy as np
import pytest

import kresnet
from kresnet import search
from kresnet.search.space import Exhausted

SPACES = {
    "mobile": (search.mobile(), 224),
    "mobile for small images": (
        search.mobile(table=[(1, 8, 1, 1), (3, 16, 2, 2)], stem_width=8, head_width=32, expansions=(1, 2.5)),
        16,
    ),
    "residual": (search.residual(), 64),
    "residual for small images": (search.residual("resnet20"), 32),
    "version 2": (search.residual("resnetv2_110", depths=(-17, -16), groups=(1,)), 32),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_sample_builds(name, no_weights):
    space, size = SPACES[name]
    generator = np.random.default_rng(0)
    for i in range(4):
        point = space.sample(generator)
        model = space.build(point, input_shape=(size, size, 3), classes=5)
        assert model.output_shape == (None, 5)
        told = model.kresnet_config
        assert told["key"] == space.network
        assert json.loads(json.dumps(point)) == point, "a database keeps it"
        neighbour = space.mutated(point, generator)
        assert 1 <= sum(neighbour[choice] != point[choice] for choice in point) <= 2
        assert space.holds(neighbour), i


def test_mnasnets_space_has_a_choice_of_each_kind_for_each_stage():
    space = search.mobile()
    assert len(space.choices) == 7 * 5
    labels = space.labels
    assert labels["table[2].k"] == (3, 5)
    assert labels["table[2].t"] == (3, 6)
    assert labels["table[0].t"] == (1,)
    assert labels["table[2].n"] == (2, 3, 4)
    assert labels["table[2].c"] == (24, 32, 40)
    assert labels["table[6].n"] == (1, 2), "a stage keeps a block"
    assert space.size > 10**12
    point = {name: options[-1] for name, options in labels.items()}
    spec = space.spec(point)
    assert spec.table[3] == (6, 80, 5, 2, 5, 0.25, False, None)
    assert space.build(point, input_shape=(32, 32, 3)).get_layer("stage5_block5_conv2").kernel_size == (5, 5)


def test_what_a_spec_refuses_is_never_drawn():
    space = search.Space("resnet26", {"groups": (1, 3, 32), "expansion": (1, 4), "widths[0]": (48, 64)})
    held = list(space.every())
    assert space.size == 12
    drawn = [space.sample(np.random.default_rng(i)) for i in range(100)]
    assert {tuple(point.values()) for point in drawn} == {tuple(point.values()) for point in held}
    # 3 groups divide 48 but not 128, and a basic block has none; 32 do not divide 48.
    assert {(point["groups"], point["expansion"], point["widths[0]"]) for point in held} == {
        *((1, expansion, width) for expansion in (1, 4) for width in (48, 64)),
        (32, 4, 64),
    }
    with pytest.raises(ValueError, match="Groups and their width are of a bottleneck's 3x3"):
        space.build({"groups": 32, "expansion": 1, "widths[0]": 64})


def test_fields_that_are_set_together_and_a_condition():
    blocks = {"basic": {"expansion": 1}, "cardinality": {"expansion": 4, "groups": 32, "group_width": 4}}
    space = search.Space("resnet26", {"block": blocks, "stem": ("conv7", "deep")}, {"se_reduction": 16})
    assert space.fields({"block": "cardinality", "stem": "deep"}) == {
        **{"se_reduction": 16, "expansion": 4, "groups": 32, "group_width": 4, "stem": "deep"}
    }
    narrower = search.Space("resnet26", space.choices, valid=lambda point: point["block"] == "basic")
    assert [point["stem"] for point in narrower.every()] == ["conv7", "deep"]
    impossible = search.Space("resnet26", space.choices, valid=lambda point: False)
    with pytest.raises(Exhausted, match="None of 2000 points that were drawn is valid"):
        impossible.sample(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"grups": (1, 2)}, r"ResNetSpec has no field 'grups'\. Did you mean 'groups' or 'group_width'\?"),
        ({"depths[4]": (1, 2)}, "There is no such place in the spec.*place='depths\\[4\\]'"),
        ({"depths[1].k": (1, 2)}, "There is no such place in the spec"),
        ({"groups": ()}, r"must have options for 'groups'. Received: options=\(\)"),
        ({"groups": (1, 2, 1)}, "'groups' has an option twice"),
        ({}, "`choices` must map places"),
    ],
)
def test_a_space_that_makes_no_sense(choices, message):
    with pytest.raises(ValueError, match=message):
        search.Space("resnet26", choices)


def test_a_point_of_another_space():
    space = search.Space("resnet26", {"groups": (1, 2)})
    with pytest.raises(ValueError, match=r"`groups` must be one of 1, 2\..*Received: groups=True"):
        space.fields({"groups": True})
    with pytest.raises(ValueError, match="A point has an option for each choice"):
        space.fields({"groups": 1, "stem": "deep"})


def test_a_description_is_a_key(tmp_path):
    space = search.mobile(table=[(1, 8, 1, 1), (3, 16, 2, 2)], stem_width=8, head_width=32)
    point = space.sample(np.random.default_rng(3))
    kresnet.models.registry.write_description(tmp_path / "best", space.network, space.fields(point), 16)
    found = kresnet.create_model(str(tmp_path / "best"), classes=3)
    assert found.to_json() == space.build(point, classes=3, input_shape=(16, 16, 3)).to_json()
    assert found.kresnet_config["key"] == "mobilenetv2_100"
    assert found.kresnet_config["changes"]["stem_width"] == 8
    # What was found is where the next search begins.
    again = search.Space(str(tmp_path / "best"), {"head_width": (16, 24)})
    changes = again.changes({"head_width": 16})
    assert (changes["stem_width"], changes["head_width"], len(changes["table"])) == (8, 16, 2)
    (tmp_path / "best" / "network.json").write_text('{"key": "mobilenetv2_100", "fields": {"tabel": []}}')
    with pytest.raises(ValueError, match=r"network\.json does not describe a network"):
        kresnet.create_model(str(tmp_path / "best"))
