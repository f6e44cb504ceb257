#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the images that the example learns from, beside this file: those of scikit-learn's digits that examples/digits does
not test with.

    python make.py

x.npy (1437, 8, 8) float32, grey levels 0 to 1, and labels.npy (1437) int64. Needs numpy and scikit-learn.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

HERE = pathlib.Path(__file__).resolve().parent


def main():
    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    test = {image.tobytes() for image in np.load(HERE.parent / "digits" / "x.npy")}
    chosen = np.array([image.tobytes() not in test for image in images])
    np.save(HERE / "x.npy", images[chosen])
    np.save(HERE / "labels.npy", labels[chosen])
    print(f"{chosen.sum()} images to learn from, {len(test)} to test with")


if __name__ == "__main__":
    main()
