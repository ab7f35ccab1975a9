"""ParNet: streams side by side, one for each resolution, instead of many layers in a row.

Goyal et al. 2021, arXiv:2110.07641, "Non-deep Networks".
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import keras

from kresnet import checks
from kresnet.layers import ACTIVATIONS, ChannelShuffle, activation, conv, norm
from kresnet.models.ends import FeatureMap
from kresnet.models.family import MOST_BLOCKS, MOST_CHANNELS, Family, Spec
from kresnet.models.registry import variant
from kresnet.models.repvgg import branches
from kresnet.models.scaling import make_divisible, multiplied_depth
from kresnet.weights.layout import BLOCK, HEAD, Layout


@dataclasses.dataclass(frozen=True)
class ParNetSpec(Spec):
    """A ParNet. The defaults are ParNet-S's.

    Raises:
        ValueError: if a field, or two together, make no sense.
    """

    settings = (*Spec.settings, "activation")

    depths: tuple[int, ...] = (4, 5, 5)  # blocks in each stream
    widths: tuple[int, ...] = (92, 192, 384)  # channels of each stream; the stem has the first's, but at most 64
    head_width: int = 1280  # channels of the last block
    activation: str = "silu"  # one of `kresnet.layers.ACTIVATIONS`

    def __post_init__(self):
        super().__post_init__()
        depths = checks.integers("depths", self.depths, maximum=MOST_BLOCKS)
        widths = checks.integers("widths", self.widths, maximum=MOST_CHANNELS)
        checks.require(
            len(depths) == len(widths) >= 2,
            "`depths` and `widths` must match, and be those of two streams at least",
            depths=depths,
            widths=widths,
        )
        checks.require(
            all(width % 2 == 0 for width in widths[1:]),
            "`widths` must be even behind the first: fused streams are convolved in two groups",
            widths=widths,
        )
        self._set(depths=depths, widths=widths)
        self._set(head_width=checks.integer("head_width", self.head_width, maximum=MOST_CHANNELS))
        checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def stride(self) -> int:
        return 2 ** (2 + len(self.depths))

    def scaled(self, depth: float, width: float) -> ParNetSpec:
        """Widths go to multiples of 8."""
        wider = {}
        if width != 1:
            wider = {"widths": tuple(make_divisible(w * width) for w in self.widths)}
            wider["head_width"] = make_divisible(self.head_width * width)
        return replace(self, depths=tuple(multiplied_depth(n, depth) for n in self.depths), **wider)


def parnet(x: Any, spec: ParNetSpec) -> tuple[Any, dict[str, FeatureMap]]:
    """Builds the stem, the streams, each of which is fused with those before it, and the last block.

    The first block of a stage takes the resolution down for its stream, and for the next stage. A stage's feature map
    is its stream's.
    """
    x = _downsampling(x, spec, min(64, spec.widths[0]), name="stem")
    maps, fused = {"stem": FeatureMap(x, 2)}, None
    for stage, (depth, width, wider) in enumerate(
        zip(spec.depths, spec.widths, (*spec.widths[1:], None), strict=True), 2
    ):
        x = stream = _downsampling(x, spec, width, name=f"stage{stage}_block1")
        for i in range(2, depth + 2):
            stream = _block(stream, spec, f"stage{stage}_block{i}")
        maps[f"stage{stage}"] = FeatureMap(stream, 2**stage)
        if fused is None:
            fused = _downsampling(stream, spec, wider, name=f"stage{stage}_down")
        elif wider:
            fused = _fusion(stream, fused, spec, wider, 2, f"stage{stage}_fusion")
        else:
            fused = _fusion(stream, fused, spec, width, 1, "fusion")
    x = _downsampling(fused, spec, spec.head_width, name="last")
    return x, maps | {f"stage{len(spec.depths) + 2}": FeatureMap(x, spec.stride)}


def _block(x: Any, spec: ParNetSpec, name: str) -> Any:
    """RepVGG's block, with a gate on its identity: skip-squeeze-and-excitation."""
    width = x.shape[-1]
    identity = norm(x, epsilon=spec.epsilon, momentum=spec.momentum, name=f"{name}_identity_norm")
    gated = keras.layers.Multiply(name=f"{name}_scale")([identity, _gate(identity, width, name=name)])
    parts = [*branches(x, spec, width, stride=1, groups=1, name=name), gated]
    return activation(keras.layers.Add(name=f"{name}_add")(parts), spec.activation, name=f"{name}_out")


def _downsampling(x: Any, spec: ParNetSpec, width: int, *, stride: int = 2, groups: int = 1, name: str) -> Any:
    """RepVGG's block without an identity, and with a gate in (0, 2), computed from the block's input."""
    parts = branches(x, spec, width, stride=stride, groups=groups, averaged=True, name=name)
    gate = keras.layers.Rescaling(2.0, name=f"{name}_twice")(_gate(x, width, groups=groups, name=name))
    y = keras.layers.Multiply(name=f"{name}_scale")([keras.layers.Add(name=f"{name}_add")(parts), gate])
    return activation(y, spec.activation, name=f"{name}_out")


def _fusion(stream: Any, fused: Any, spec: ParNetSpec, width: int, stride: int, name: str) -> Any:
    """Joins a stream with those before it, each group of whose channels gets half of both."""
    parts = [
        norm(part, epsilon=spec.epsilon, momentum=spec.momentum, name=f"{name}_norm{i}")
        for i, part in enumerate((stream, fused), 1)
    ]
    x = ChannelShuffle(2, name=f"{name}_interleave")(keras.layers.Concatenate(name=f"{name}_concat")(parts))
    x = _downsampling(x, spec, width, stride=stride, groups=2, name=name)
    return ChannelShuffle(2, name=f"{name}_shuffle")(x)


def _gate(x: Any, width: int, *, groups: int = 1, name: str) -> Any:
    """A number in (0, 1) for each of `width` channels, computed from the means of all channels by one layer."""
    means = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    return activation(conv(means, width, 1, groups=groups, name=f"{name}_excite"), "sigmoid", name=f"{name}_gate")


# Where a block is, where its authors' code has it, and the module of its 1x1 there, which follows an average or not.
_PLACES = (
    ("stem", "inits.0.0.block", "rbr_1x1.1"),
    ("stage2_block1", "inits.0.1.block", "rbr_1x1.1"),
    (r"stage(?P<stage>\d+)_block1", "inits.{stage_2}.block", "rbr_1x1.1"),
    (BLOCK.removesuffix("_"), "streams.{stage_2}.{block_2}.block", "rbr_1x1"),
    (r"stage(?P<stage>\d+)_down", "downsamples_2.{stage_2}.block", "rbr_1x1.1"),
    (r"stage(?P<stage>\d+)_fusion", "downsamples_2.{stage_2}.2.block", "rbr_1x1.1"),
    ("fusion", "combine.2.block", "rbr_1x1"),
    ("last", "combine.3.block", "rbr_1x1.1"),
)


def _names() -> dict[str, str]:
    found = {
        r"stage(?P<stage>\d+)_fusion_norm(?P<i>\d)": "downsamples_2.{stage_2}.0.b{i}",
        r"fusion_norm(?P<i>\d)": "combine.0.b{i}",
        HEAD: "head.fc",
    }
    for place, module, one_by_one in _PLACES:
        found |= {
            f"{place}_conv3x3": f"{module}.rbr_dense.conv",
            f"{place}_norm3x3": f"{module}.rbr_dense.bn",
            f"{place}_conv1x1": f"{module}.{one_by_one}.conv",
            f"{place}_norm1x1": f"{module}.{one_by_one}.bn",
            f"{place}_identity_norm": f"{module}.rbr_identity",
            f"{place}_excite": f"{module}.se.cvsig.conv",
        }
    return found


IMANKGOYAL = Layout("ParNet, imankgoyal's", _names())

PARNET = Family("parnet", ParNetSpec, parnet, layouts=(IMANKGOYAL,))

PAPER = "2110.07641"
S = ParNetSpec()
M = replace(S, widths=(128, 256, 512), head_width=2048)
L = replace(S, widths=(160, 320, 640), head_width=2560, head_dropout_rate=0.1)
XL = replace(L, widths=(200, 400, 800), head_width=3200)

ParNet_S = variant("ParNet_S", PARNET, S, paper=PAPER)
ParNet_M = variant("ParNet_M", PARNET, M, paper=PAPER)
ParNet_L = variant("ParNet_L", PARNET, L, paper=PAPER)
ParNet_XL = variant("ParNet_XL", PARNET, XL, paper=PAPER)
