"""Seeds that follow from the run's seed and what they are for, never from a clock or a restart."""

import hashlib


def derive(run_seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^31), the same for the same run seed and purpose on every machine."""
    text = "/".join(map(str, (run_seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
