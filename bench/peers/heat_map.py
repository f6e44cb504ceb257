# SPDX-License-Identifier: Apache-2.0
"""A heat map of ratios as SVG: a grid for each precision and kind of stack, hidden units down, batch across."""

import math

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 62, 26, 70, 52


def color(x):
    """Red below 1, white at 1, blue above; saturated at a quarter and at four times."""
    if x is None:
        return "#dddddd"
    share = max(-1.0, min(1.0, math.log(x) / math.log(4)))
    light = round(255 - 155 * abs(share))
    return f"#{light:02x}{light:02x}ff" if share > 0 else f"#ff{light:02x}{light:02x}"


def grids_of(ratios):
    """{(math, T, L, D): {(H, I, B): x}}"""
    grids = {}
    for (case, kind), x in ratios.items():
        numbers = case.split(",")
        if len(numbers) == 6:
            t, b, i, h, layers, directions = map(int, numbers)
            grids.setdefault((kind, t, layers, directions), {})[(h, i, b)] = x
    return grids


def draw(ratios):
    """ratios: {("T,B,I,H,L,D", math): cuDNN's time over ours, or None}."""
    parts, y, width = [], 0, 400
    for (kind, t, layers, directions), cells in sorted(grids_of(ratios).items()):
        batches = sorted({b for _, _, b in cells})
        rows = sorted({(h, i) for h, i, _ in cells})
        width = max(width, LEFT + CELL_WIDTH * len(batches) + 20)
        parts.append(
            f'<text x="10" y="{y + 18}" font-weight="bold">{kind}, T = {t}, {layers} layer{"s" * (layers > 1)}, '
            f"{directions} direction{'s' * (directions > 1)}: cuDNN / gru</text>"
        )
        for column, b in enumerate(batches):
            parts.append(
                f'<text x="{LEFT + CELL_WIDTH * (column + 0.5)}" y="{y + 42}" text-anchor="middle">B {b}</text>'
            )
        for row, (h, i) in enumerate(rows):
            top = y + TOP + CELL_HEIGHT * row
            parts.append(
                f'<text x="{LEFT - 6}" y="{top + 17}" text-anchor="end">H {h}{"" if i == h else f" I {i}"}</text>'
            )
            for column, b in enumerate(batches):
                if (h, i, b) not in cells:
                    continue
                x = cells[h, i, b]
                left = LEFT + CELL_WIDTH * column
                parts.append(
                    f'<rect x="{left}" y="{top}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" fill="{color(x)}"/>'
                    f'<text x="{left + CELL_WIDTH / 2 - 1}" y="{top + 17}" text-anchor="middle">'
                    f"{'-' if x is None else f'{x:.2f}'}</text>"
                )
        y += TOP + CELL_HEIGHT * len(rows) + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{max(y, 20)}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
