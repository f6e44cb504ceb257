# SPDX-License-Identifier: Apache-2.0
"""The golden cases: their sizes and features, in torch.nn.GRU's words (see make.py)."""

import dataclasses


@dataclasses.dataclass
class Case:
    """One configuration; the defaults are torch.nn.GRU's."""

    name: str
    about: str
    T: int
    B: int
    I: int
    H: int
    L: int = 1
    bias: bool = True
    bidirectional: bool = False
    batch_first: bool = False
    unbatched: bool = False
    h0: bool = False
    lengths: list | None = None
    lengths_dtype: str = "int64"
    reset_before: bool = False
    prefix: str = ""
    cell_names: bool = False  # GRUCell's names: no layer suffix
    foreign: bool = False  # tensors that are not ours stand beside the weights
    weights_dtype: str = "F32"
    x_dtype: str = "float32"
    x_scale: float = 1.0
    fortran_order: bool = False
    non_finite: bool = False  # a NaN and an Inf among the valid inputs
    torch_in: str | None = (
        None  # 16 bits that weights, x and h0 hold exactly: torch.nn.GRU's own error there is recorded
    )

    @property
    def D(self):
        return 2 if self.bidirectional else 1


CASES = [
    Case("unit", "the smallest model there is: every size is 1", T=1, B=1, I=1, H=1, h0=True),
    Case("plain", "one layer, one direction, no initial state", T=7, B=3, I=4, H=8),
    Case("initial_state", "sizes that divide no tile, with h0", T=9, B=2, I=5, H=7, h0=True),
    Case("aligned", "sizes that are multiples of usual tiles", T=4, B=8, I=16, H=32, h0=True),
    Case("two_layers", "a hidden size one above a multiple of 32", T=5, B=2, I=3, H=33, L=2, h0=True),
    Case("three_layers", "a deeper stack, no initial state", T=8, B=3, I=6, H=5, L=3),
    Case("no_bias", "bias=False", T=6, B=3, I=5, H=7, bias=False),
    Case("bidirectional", "both directions", T=7, B=3, I=5, H=7, bidirectional=True),
    Case(
        "bidirectional_layers_no_bias",
        "everything at once but bias",
        T=6,
        B=2,
        I=4,
        H=6,
        L=2,
        bias=False,
        bidirectional=True,
        h0=True,
    ),
    Case(
        "batch_first",
        "batch_first transposes x and output, never h0 and h_n",
        T=6,
        B=3,
        I=4,
        H=5,
        L=2,
        bidirectional=True,
        batch_first=True,
        h0=True,
    ),
    Case("unbatched", "x (T, I) and h0 (L*D, H)", T=6, B=1, I=4, H=5, L=2, bidirectional=True, unbatched=True, h0=True),
    Case(
        "unbatched_batch_first",
        "batch_first says nothing about an unbatched x",
        T=5,
        B=1,
        I=3,
        H=4,
        batch_first=True,
        unbatched=True,
    ),
    Case(
        "lengths",
        "variable length, unsorted, one full and one of a single step",
        T=8,
        B=4,
        I=5,
        H=7,
        lengths=[3, 8, 1, 6],
        h0=True,
    ),
    Case(
        "lengths_bidirectional_layers",
        "the longest sequence is shorter than T; the reverse direction starts at each row's own end",
        T=10,
        B=5,
        I=4,
        H=6,
        L=2,
        bidirectional=True,
        batch_first=True,
        lengths=[4, 1, 9, 9, 2],
        lengths_dtype="int32",
        h0=True,
    ),
    Case(
        "non_finite",
        "a NaN and an Inf in valid places reach what they must and nothing else",
        T=6,
        B=3,
        I=4,
        H=5,
        L=2,
        non_finite=True,
    ),
    Case("saturated", "gates far in their flat ends", T=6, B=3, I=4, H=6, x_scale=100.0, h0=True),
    Case("long", "many steps: errors have time to grow", T=200, B=1, I=2, H=6, h0=True),
    Case(
        "cell_names",
        "a GRUCell's state_dict: weight_ih without a layer suffix",
        T=1,
        B=4,
        I=5,
        H=7,
        h0=True,
        cell_names=True,
    ),
    Case(
        "reset_before",
        "the reset gate before the product (ONNX linear_before_reset=0)",
        T=7,
        B=3,
        I=5,
        H=7,
        h0=True,
        reset_before=True,
    ),
    Case(
        "reset_before_lengths",
        "the same with two layers, two directions and variable length",
        T=6,
        B=3,
        I=4,
        H=5,
        L=2,
        bidirectional=True,
        lengths=[6, 1, 4],
        h0=True,
        reset_before=True,
    ),
    Case(
        "state_dict",
        "a whole model's state_dict: a prefix, and tensors of other types beside ours",
        T=5,
        B=2,
        I=4,
        H=6,
        L=2,
        prefix="encoder.gru.",
        foreign=True,
    ),
    Case("weights_float16", "weights stored as float16", T=6, B=2, I=5, H=7, weights_dtype="F16", h0=True),
    Case("weights_bfloat16", "weights stored as bfloat16", T=6, B=2, I=5, H=7, weights_dtype="BF16", h0=True),
    Case(
        "weights_float64",
        "weights, x and h0 stored as float64, x in Fortran order",
        T=6,
        B=2,
        I=5,
        H=7,
        weights_dtype="F64",
        x_dtype="float64",
        fortran_order=True,
        h0=True,
    ),
    Case(
        "in_float16",
        "weights, x and h0 of float16, beside torch's own results in it",
        T=24,
        B=4,
        I=16,
        H=32,
        L=2,
        bidirectional=True,
        weights_dtype="F16",
        x_dtype="float16",
        h0=True,
        torch_in="float16",
    ),
    Case(
        "in_bfloat16",
        "the same of bfloat16; x and h0 are stored as float32",
        T=24,
        B=4,
        I=16,
        H=32,
        L=2,
        bidirectional=True,
        weights_dtype="BF16",
        h0=True,
        torch_in="bfloat16",
    ),
]


def suffixes(case):
    """(layer, direction, suffix of the tensor names), in the order of h0's rows."""
    return [(l, d, f"_l{l}" + ("_reverse" if d else "")) for l in range(case.L) for d in range(case.D)]
