"""Numbers of decimal128(38, 18) as canonical texts, a whole array at a time.

Owns that the text that comes back is the one that Arrow's cast took in. Arrow alone writes 0 as `0E-18` and what is
smaller than a millionth with an exponent; every deleted level of a book is a 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SCALE: Final = 18
_MILLIONTH: Final = 10 ** (_SCALE - 6)
_WORDS: Final = 2


def text_of(numbers: pa.Array) -> pa.Array:
    """The canonical text of each number; null stays null."""
    text = pc.ascii_rtrim(pc.ascii_rtrim(numbers.cast(pa.string()), "0"), ".")
    small, units = _below_a_millionth(numbers)
    if not small.any():
        return text
    digits = pc.ascii_lpad(pa.array(np.abs(units[small])).cast(pa.string()), _SCALE, "0")
    digits = pc.ascii_rtrim(digits, "0")
    sign = pa.array(np.where(units[small] < 0, "-0.", "0."))
    short = pc.if_else(pc.equal(digits, ""), "0", pc.binary_join_element_wise(sign, digits, ""))
    return pc.replace_with_mask(text, pa.array(small), short)


def _below_a_millionth(numbers: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where a number is not null and closer to 0 than a millionth, and the units (1e-18) of each that is."""
    words = np.frombuffer(numbers.buffers()[1], np.int64)
    words = words[_WORDS * numbers.offset : _WORDS * (numbers.offset + len(numbers))].reshape(-1, _WORDS)
    low, high = words[:, 0], words[:, 1]
    # the high word only carries the sign of such a number
    small = (high == low >> 63) & (low < _MILLIONTH) & (low > -_MILLIONTH)
    if numbers.null_count:
        small &= numbers.is_valid().to_numpy(zero_copy_only=False)
    return small, low
