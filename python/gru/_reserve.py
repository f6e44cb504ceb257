# SPDX-License-Identifier: Apache-2.0
"""How much a forward keeps for its backward."""


def words(steps, batch, hidden, rows, training, wide):
    """Room, in words of 32 bits, for what a backend keeps, as a formula that compilers can read: each layer's and
    direction's states, with one step before and one after, and in "keep" the four gate values of each unit and step.

    rows: L*D. training: "keep" or "remake". wide: elements of 64 bits."""
    batch = max(batch, 1)
    steps = 1 if steps <= 1 else (steps + 15) // 16 * 16  # as plans are made (python/src/plan_cache.cpp)
    hidden = (hidden + 15) // 16 * 16  # the most that a processor's registers hold
    values = (steps + 2) + (4 * steps if training == "keep" else 0)
    return (values * rows * batch * hidden + 1024) * (2 if wide else 1)
