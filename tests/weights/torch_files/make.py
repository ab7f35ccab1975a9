"""Writes the files beside it, as PyTorch saves them: `python make.py`, in a Python that has PyTorch (here 2.13).

The values are those that test_torch_file.py computes too.
"""

import argparse
import collections
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def save(value, name, **options):
    torch.save(value, HERE / f"{name}.pth", **options)


def arrays():
    """Arrays of every type and layout, and what else may be in a state dict."""
    rows = torch.arange(12.0).reshape(3, 4)
    tensors = {
        str(dtype).removeprefix("torch."): torch.tensor([0, 1, 3]).to(dtype)
        for dtype in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16),
            *(torch.int8, torch.uint8, torch.bool),
        )
    }
    tensors |= {
        "transposed": rows.T,
        "last_row": rows[2],
        "every_other": rows[1:, ::2],
        "scalar": torch.tensor(-2.5),
        "empty": torch.zeros(0, 3),
        "expanded": torch.tensor([7.0]).expand(2, 5),
        "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    state = collections.OrderedDict(tensors)
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


def checkpoint():
    """What a training script saves: a network in DataParallel and its moving average beside all sorts of things."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    average = {"module": {name: value + 1 for name, value in net.state_dict().items()}}
    return {
        "epoch": 3,
        "best_acc1": torch.tensor(71.5),
        "model_ema": average,
        "state_dict": nn.DataParallel(net).state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": collections.Counter([30, 60]),
        "more": [None, "text", (1, 2.5, True), {5: b"bytes"}, {1, 2}, torch.Size([2, 3]), torch.device("cpu")],
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    for suffix, new in (("zip", True), ("stream", False)):
        save(arrays(), f"arrays_{suffix}", _use_new_zipfile_serialization=new)
        save(checkpoint(), f"checkpoint_{suffix}", _use_new_zipfile_serialization=new)
        save(Twice(), f"module_{suffix}", _use_new_zipfile_serialization=new)
    save(checkpoint(), "checkpoint_protocol4", pickle_protocol=4)
    save({"state_dict": {"w": torch.ones(1)}, "args": argparse.Namespace(lr=0.1)}, "namespace_zip")
    torch.jit.save(torch.jit.script(Twice()), HERE / "script.pth")
