"""Draws the blocks that networks are made of, an SVG each, into docs/blocks (`make table`)."""

from __future__ import annotations

import dataclasses
import html
import itertools
import pathlib
import statistics

from blocks import Part, parts

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "blocks"

# File, caption, network, and what the names of the block's layers begin with.
PICTURES = (
    ("alexnet2012", "AlexNet, first layer", "alexnet2012", "stage1_"),
    ("nin", "Network in Network: 1x1 convolutions behind a 5x5", "nin", "stage2_"),
    ("vgg", "VGG-16, a stage", "vgg16", "stage2_"),
    ("googlenet", "GoogLeNet, a module", "googlenet2014", "stage3_block1_"),
    ("inception_v3", "Inception-v3, its factorized module", "inception_v3", "stage4_block2_"),
    ("inception_resnet", "Inception-ResNet-v2, a module", "inception_resnet_v2", "stage3_block2_"),
    ("plain", "PlainNet-18, without a shortcut", "plainnet18", "stage2_block1_"),
    ("basic", "ResNet-18, basic", "resnet18", "stage2_block1_"),
    ("bottleneck", "ResNet-50, bottleneck", "resnet50", "stage2_block2_"),
    ("projection", "ResNet-50, the first of a stage", "resnet50", "stage3_block1_"),
    ("resnet_d", "ResNet-50-D: it averages before it projects", "resnet50d", "stage3_block1_"),
    ("preactivation", "ResNet-50 V2, pre-activation", "resnetv2_50", "stage2_block2_"),
    ("resnext", "ResNeXt-50 32x4d: 32 groups", "resnext50_32x4d", "stage2_block2_"),
    ("se", "SE-ResNet-18: squeeze-and-excitation", "seresnet18", "stage2_block1_"),
    ("wide", "WRN-28-10", "wrn_28_10", "stage2_block2_"),
    ("densenet", "DenseNet-121, a layer", "densenet121", "stage2_block1_"),
    ("transition", "DenseNet-121, a transition", "densenet121", "stage2_transition_"),
    ("mobilenetv1", "MobileNet V1: depthwise, then 1x1", "mobilenetv1_100", "stage3_block2_"),
    ("mobilenetv2", "MobileNet V2, inverted residual", "mobilenetv2_100", "stage3_block2_"),
    ("mobilenetv3", "MobileNet V3-Large", "mobilenetv3_large_100", "stage4_block2_"),
    ("efficientnet", "EfficientNet-B0", "efficientnet_b0", "stage3_block2_"),
    ("fused", "EfficientNetV2-S, fused", "efficientnetv2_s", "stage3_block2_"),
    ("repvgg", "RepVGG-A0, while it trains", "repvgg_a0", "stage2_block2_"),
    ("parnet", "ParNet-S", "parnet_s", "stage3_block2_"),
)

ROW, GAP, LANE, MARGIN = 46, 18, 26, 8  # pixels: between ranks, between boxes, a lane of a shortcut, around all
HEIGHT = {"end": 24, "conv": 28, "small": 24, "join": 24}
# Middle tones, since a picture is seen on a light page and on a dark one; its texts stand in the boxes alone.
FILL = {"end": "#d7dce2", "conv": "#9cc4f0", "small": "#f2d38b", "join": "#f4a9a0"}
STYLE = "font:13px system-ui,sans-serif;text-anchor:middle;dominant-baseline:central;fill:#1b1f24"


@dataclasses.dataclass
class Node:
    """A box, or a bend of an edge that passes a rank by."""

    part: Part | None
    rank: int
    above: list[int]
    x: float = 0.0

    @property
    def width(self) -> float:
        if self.part is None:
            return LANE
        return 26 if len(self.part.text) == 1 else 7.4 * len(self.part.text) + 18


def svg(found: list[Part], title: str) -> str:
    """Returns a picture of the parts, the input at the top."""
    nodes = placed(found)
    left = min(node.x - node.width / 2 for node in nodes) - MARGIN
    width = max(node.x + node.width / 2 for node in nodes) + MARGIN - left
    height = ROW * max(node.rank for node in nodes) + max(HEIGHT.values()) + 2 * MARGIN
    for node in nodes:
        node.x -= left
    edges = [_edge(nodes, end, source) for end, node in enumerate(nodes) if node.part for source in node.above]
    boxes = [_box(node) for node in nodes if node.part]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" role="img"><title>{html.escape(title)}</title>'
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#7d8590"/></marker></defs>\n'
        + "\n".join([*edges, f'<g style="{STYLE}">', *boxes, "</g>"])
        + "\n</svg>\n"
    )


def placed(found: list[Part]) -> list[Node]:
    """Gives each part a rank, below all that it takes, and a place within the rank; edges bend at the ranks between."""
    nodes: list[Node] = []
    for part in found:
        rank = 1 + max((nodes[source].rank for source in part.sources), default=-1)
        nodes.append(Node(part, rank, list(part.sources)))
    last = max(node.rank for node in nodes)
    for end in range(len(found)):
        for i, source in enumerate(nodes[end].above):
            for rank in range(nodes[source].rank + 1, nodes[end].rank):
                nodes.append(Node(None, rank, [source]))
                source = len(nodes) - 1
            nodes[end].above[i] = source
    ranks = [[i for i, node in enumerate(nodes) if node.rank == rank] for rank in range(last + 1)]
    below = [[j for j, node in enumerate(nodes) if i in node.above] for i in range(len(nodes))]
    ranks = min(_orders(ranks, nodes, below), key=lambda order: _crossings(order, nodes))
    for rank in ranks:
        _spread(nodes, rank, [0.0] * len(rank))
    for _ in range(30):
        for direction in (ranks, ranks[::-1]):
            for rank in direction:
                near = [nodes[i].above + below[i] for i in rank]
                _spread(nodes, rank, [statistics.fmean(nodes[j].x for j in js) for js in near])
    _straighten(nodes)
    return nodes


def _straighten(nodes: list[Node]) -> None:
    """Puts all bends of an edge above each other, where nothing stands in their way."""
    for last in (node for node in nodes if node.part):
        for source in last.above:
            chain = []
            while nodes[source].part is None:
                chain.append(nodes[source])
                source = nodes[source].above[0]
            for x in sorted((node.x for node in chain), reverse=True):
                others = [n for n in nodes if n not in chain and n.rank in [bend.rank for bend in chain]]
                if all(abs(n.x - x) >= (n.width + LANE) / 2 for n in others):
                    for bend in chain:
                        bend.x = x
                    break


def _orders(ranks, nodes, below):
    """Yields orders within the ranks: as they run, and after sweeps by the mean place of the neighbours."""
    yield [list(rank) for rank in ranks]
    for sweep in range(8):
        place = {i: k - len(rank) / 2 for rank in ranks for k, i in enumerate(rank)}
        near = (lambda i: nodes[i].above) if sweep % 2 else (lambda i: below[i])
        for rank in ranks if sweep % 2 else ranks[::-1]:
            # Of two with the same place the bend goes to the right, as shortcuts are drawn.
            mean = {i: statistics.fmean([place[j] for j in near(i)] or [place[i]]) for i in rank}
            rank.sort(key=lambda i: (mean[i], nodes[i].part is None))
            place.update({i: k - len(rank) / 2 for k, i in enumerate(rank)})
        yield [list(rank) for rank in ranks]


def _crossings(ranks, nodes) -> int:
    place = {i: k for rank in ranks for k, i in enumerate(rank)}
    count = 0
    for rank in ranks:
        edges = [(place[source], place[i]) for i in rank for source in nodes[i].above]
        count += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(edges, 2))
    return count


def _spread(nodes: list[Node], rank: list[int], wanted: list[float]) -> None:
    """Puts a rank's nodes as near to the wanted places as their widths allow, in their order."""
    groups: list[list] = []  # each [nodes, offsets from the first, wanted place of the first]
    for i, want in zip(rank, wanted, strict=True):
        groups.append([[i], [0.0], want])
        while len(groups) > 1:
            first, second = groups[-2:]
            shift = first[1][-1] + (nodes[first[0][-1]].width + nodes[second[0][0]].width) / 2 + GAP
            if first[2] + shift <= second[2]:
                break
            count = len(first[0]), len(second[0])
            start = (count[0] * first[2] + count[1] * (second[2] - shift)) / sum(count)
            groups[-2:] = [[first[0] + second[0], first[1] + [shift + o for o in second[1]], start]]
    for members, offsets, start in groups:
        for i, offset in zip(members, offsets, strict=True):
            nodes[i].x = start + offset


def _y(node: Node) -> float:
    return MARGIN + max(HEIGHT.values()) / 2 + ROW * node.rank


def _edge(nodes: list[Node], end: int, source: int) -> str:
    """Returns the line from a part to another, through its bends."""
    way = [nodes[end]]
    node = nodes[source]
    while node.part is None:
        way.append(node)
        node = nodes[node.above[0]]
    way = [node, *way[::-1]]
    height = HEIGHT[nodes[end].part.kind]
    points = [(n.x, _y(n)) for n in way]
    points[0] = points[0][0], points[0][1] + HEIGHT[node.part.kind] / 2
    points[-1] = points[-1][0], points[-1][1] - height / 2
    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        bend = (y0 + y1) / 2
        path += (
            f"L{x1:.0f} {y1:.0f}" if abs(x0 - x1) < 1 else f"C{x0:.0f} {bend:.0f} {x1:.0f} {bend:.0f} {x1:.0f} {y1:.0f}"
        )
    return f'<path d="{path}" fill="none" stroke="#7d8590" stroke-width="1.6" marker-end="url(#a)"/>'


def _box(node: Node) -> str:
    height, x, y = HEIGHT[node.part.kind], node.x, _y(node)
    radius = height / 2 if node.part.kind in ("join", "end") else 4
    text = html.escape(node.part.text)
    return (
        f'<rect x="{x - node.width / 2:.1f}" y="{y - height / 2:.1f}" width="{node.width:.1f}" height="{height}" '
        f'rx="{radius:g}" fill="{FILL[node.part.kind]}"/><text x="{x:.1f}" y="{y:.1f}">{text}</text>'
    )


def write() -> None:
    """Writes all pictures, and removes others."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    for name, caption, key, prefixes in PICTURES:
        (FOLDER / f"{name}.svg").write_text(svg(parts(key, prefixes), caption))


if __name__ == "__main__":
    write()
