#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's model on real handwritten digits and writes what the demo reads, beside this file.

    python make.py

Needs torch, numpy, safetensors and scikit-learn, which brings the images along (versions used: see model.json).
An image is 8 rows of 8 pixels: a sequence of 8 steps with 8 inputs. The model is a bidirectional GRU of two layers
and a linear head on the last layer's final states of both directions:

    _, h_n = gru(x)                                          h_n (4, N, 32)
    logits = head(concatenate(h_n[2], h_n[3]))               (N, 10)

Files: weights.safetensors (gru.*, head.weight (10, 64), head.bias (10)), x.npy (360, 8, 8) float32, labels.npy (360) int64,
logits.npy (360, 10) float64 from torch in float64, model.json (sizes, accuracy, versions).
"""

import json
import pathlib
import sys

import numpy as np
import sklearn
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
HIDDEN, LAYERS, CLASSES, TEST_IMAGES, EPOCHS, SEED = 32, 2, 10, 360, 60, 0


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x):
        _, h_n = self.gru(x)
        return self.head(torch.cat([h_n[-2], h_n[-1]], dim=1))


def train(model, x, labels):
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(x), generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"\repoch {epoch + 1}/{EPOCHS}, loss {loss.item():.4f}", end="", file=sys.stderr)
    print(file=sys.stderr)


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)  # 0..16 grey levels to 0..1, exact in float32
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=TEST_IMAGES, random_state=SEED, stratify=digits.target
    )
    model = Classifier()
    train(model, torch.from_numpy(x_train), torch.from_numpy(y_train))
    model.eval()

    with torch.no_grad():
        single = model(torch.from_numpy(x_test))
        logits = model.double()(torch.from_numpy(x_test).double())
    correct = int((single.argmax(1).numpy() == y_test).sum())
    best_two = logits.topk(2, dim=1).values

    # what was trained in float32 went to float64 and comes back unchanged
    save_file(
        {k: v.to(torch.float32).contiguous() for k, v in model.state_dict().items()},
        HERE / "weights.safetensors",
        metadata={"format": "pt"},
    )
    np.save(HERE / "x.npy", x_test)
    np.save(HERE / "labels.npy", y_test.astype(np.int64))
    np.save(HERE / "logits.npy", logits.numpy())
    summary = {
        "images": TEST_IMAGES,
        "torch_correct": correct,
        "torch_accuracy": round(correct / TEST_IMAGES, 6),
        # the smallest gap between an image's best and second-best class: far above any rounding, so that a right
        # implementation predicts the same 360 digits
        "smallest_margin": float(f"{(best_two[:, 0] - best_two[:, 1]).min().item():.3g}"),
        "float32_error_of_torch": float(f"{(single.double() - logits).abs().max().item():.1e}"),
        "input_size": 8,
        "hidden_size": HIDDEN,
        "num_layers": LAYERS,
        "bidirectional": True,
        "batch_first": True,
        "split": f"train_test_split(test_size={TEST_IMAGES}, random_state={SEED}, stratify=target)",
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    (HERE / "model.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"accuracy {correct}/{TEST_IMAGES} = {100 * correct / TEST_IMAGES:.2f} %")


if __name__ == "__main__":
    main()
