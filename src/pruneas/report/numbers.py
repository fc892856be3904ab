"""Numbers as people read them: `12.3 M`, `95.12 %`, `3 min 20 s`."""

from collections.abc import Mapping

_UNITS = ("", " k", " M", " G", " T")


def count(number: int) -> str:
    """Three digits and a unit: 999, 1.23 k, 45.6 M."""
    if abs(number) < 1000:
        return str(number)
    value, unit = float(number), 0
    # 999.5 and more would be written as 1000.
    while abs(value) >= (999.5 if unit else 1000) and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{_UNITS[unit]}"


def limits(most: Mapping[str, int]) -> str:
    """What a budget comes to, by quantity: '20.5 M FLOPs and 3 ms'."""
    words = {"flops": " FLOPs", "params": " params", "memory": "B of activations"}
    texts = [
        f"{amount / 10**9:.4g} ms" if quantity == "latency" else f"{count(amount)}{words[quantity]}"
        for quantity, amount in most.items()
    ]
    return " and ".join(texts)


def percent(share: float) -> str:
    """A share as a percentage with two decimals, without the sign %: 95.12."""
    return f"{100 * share:.2f}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: +1.23."""
    return f"{100 * difference:+.2f}"


def with_spread(mean: float, std: float | None) -> str:
    """A mean share with its standard deviation, where there is one, in percent: 95.12 ± 0.34."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def with_interval(difference: float | None, interval: tuple[float, float] | None) -> str:
    """A difference with its interval, where there is one, in percentage points: +1.23 (+0.10, +2.36)."""
    if difference is None:
        return ""
    return points(difference) if interval is None else f"{points(difference)} ({', '.join(map(points, interval))})"


def share(value: float) -> str:
    """A share as a percentage with one decimal: 49.9 %."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Two units at most: 4.2 s, 58 s, 3 min 20 s, 1 h 5 min, 2 d 3 h."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, unit, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
