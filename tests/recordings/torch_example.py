"""Record the PyTorch side of examples/from_pytorch.py.

    python tests/recordings/torch_example.py

torch must be installed. A run is stopped in the middle of an epoch, and its weights and its
optimizer are written; then it goes on, and the losses of all its steps are written, too.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "from_pytorch.py"


def said() -> dict[str, Any]:
    """The data and the numbers of the example, whose rest asks for what is recorded here."""
    found: dict[str, Any] = {"np": np}
    source = EXAMPLE.read_text()
    first = source.index("EPOCH, STEPS")
    exec(source[first : source.index("# What PyTorch handed over.")], found)
    return found


class Net(torch.nn.Module):
    """A convolution and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.dense = torch.nn.Linear(144, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of a batch."""
        return self.dense(torch.relu(self.conv(x[:, None])).flatten(1))


def main() -> None:
    """Write the file."""
    example = said()
    torch.manual_seed(0)
    model = Net()
    groups = [
        {"params": [model.conv.weight, model.dense.weight], "weight_decay": 0.1},
        {"params": [model.conv.bias, model.dense.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=example["RATE"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, example["STEPS"])
    losses: list[float] = []
    kept: dict[str, Any] = {"versions": json.dumps({"torch": torch.__version__})}
    for t in range(example["STEPS"]):
        if t == example["HANDED_OVER"]:
            state_dict = optimizer.state_dict()
            kept["groups"] = json.dumps(state_dict["param_groups"])
            for i, entry in state_dict["state"].items():
                kept |= {f"state/{i}/{name}": x.numpy().copy() for name, x in entry.items()}
            for name, x in model.state_dict().items():
                kept[f"weights/{name}"] = x.numpy().copy()
        x, y = map(torch.tensor, example["batch"](t))
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1])
    np.savez_compressed(EXAMPLE.with_suffix(".npz"), losses=losses, **kept)
    print(EXAMPLE.with_suffix(".npz").stat().st_size, "bytes; losses", losses[0], losses[-1])


if __name__ == "__main__":
    main()
