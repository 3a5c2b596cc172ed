"""Who of a merged call pays how many of its tokens. Pure."""

from collections.abc import Sequence


def split_usage(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights` into whole parts that add up to it exactly.

    By largest remainder (Hamilton's method of apportionment): every part is its exact share
    rounded down or up, more weight never gets less, and among equals the first is rounded up.

    Args:
        total: not negative.
        weights: at least one, none negative; if all are 0, they count as equal.
    """
    whole = sum(weights)
    if not whole:
        weights = [1] * len(weights)
        whole = len(weights)
    parts = [total * weight // whole for weight in weights]
    missing = total - sum(parts)
    if missing:
        remainders = [total * weight % whole for weight in weights]
        by_remainder = sorted(range(len(parts)), key=remainders.__getitem__, reverse=True)
        for position in by_remainder[:missing]:
            parts[position] += 1
    return parts
