"""Independent random streams from one seed."""

import hashlib


def derive_seed(seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed for one purpose in one epoch.

    Streams of different purposes do not overlap, so that drawing more numbers for one (say,
    augmentation) never shifts another (say, the order of samples), and a run resumed at any
    epoch draws what an uninterrupted run would have drawn.

    Args:
        seed: the experiment's seed, at least 0.
        epoch: the epoch's number, 0 for joint training.
        purpose: what the numbers are for, such as "order".
    """
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
