"""What the demo asks about its monthly closes: pure functions of closes, a symbol and a period.

A month is text, `YYYY-MM`. A period runs from `start` to `end`, both included; either may be left out, and what lies
outside the data is cut off, so that every result names the months it is really about. Returns, volatilities and falls
are fractions: 0.25 is 25 %. c(t) is the close of month t, and r(t) = ln(c(t) / c(t-1)) its log return.

Every measure raises:
    LookupError: the symbol is not among the closes; the message lists those that are.
    ValueError: a month is not `YYYY-MM`, or the period holds too few closes, or none.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

__all__ = [
    "Correlation",
    "Drawdown",
    "Price",
    "Series",
    "TotalReturn",
    "Volatility",
    "annualised_return",
    "bar",
    "correlation",
    "drawdown",
    "load_closes",
    "price",
    "sparkline",
    "total_return",
    "volatility",
]

_MONTHS_A_YEAR = 12
_HEIGHTS = "▁▂▃▄▅▆▇█"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


@dataclass(frozen=True, slots=True)
class Series:
    """One company's monthly closes in US dollars: one above zero for every month, oldest first, without gaps.

    Raises:
        ValueError: the months and closes are not like that.
    """

    symbol: str
    months: tuple[str, ...]
    closes: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = [_month_number(month) for month in self.months]
        if any(later - earlier != 1 for earlier, later in pairwise(numbers)):
            raise ValueError(f"{self.symbol}: the months must follow one another without gaps")
        if len(self.closes) != len(self.months) or not all(0 < close < math.inf for close in self.closes):
            raise ValueError(f"{self.symbol}: every month needs one close above zero")

    def between(self, start: str | None = None, end: str | None = None) -> Series:
        """The part from `start` to `end`, both included; empty where the period misses the data."""
        first = -math.inf if start is None else _month_number(start)
        last = math.inf if end is None else _month_number(end)
        kept = [at for at, month in enumerate(self.months) if first <= _month_number(month) <= last]
        return Series(self.symbol, tuple(self.months[at] for at in kept), tuple(self.closes[at] for at in kept))


@dataclass(frozen=True, slots=True)
class Price:
    """The last close of a period, its lowest and its highest (the first of equals), in US dollars."""

    symbol: str
    month: str
    close: float
    low: float
    low_month: str
    high: float
    high_month: str

    @property
    def summary(self) -> str:
        """The three closes, and when they were."""
        low = f"low ${self.low:,.2f} in {self.low_month}"
        high = f"high ${self.high:,.2f} in {self.high_month}"
        return f"{self.symbol}: ${self.close:,.2f} in {self.month} ({low}, {high})"


@dataclass(frozen=True, slots=True)
class TotalReturn:
    """What holding through a period returned, in all and a year."""

    symbol: str
    start: str
    end: str
    total: float
    annualised: float

    @property
    def summary(self) -> str:
        """Without the yearly rate when the period is shorter than a year: that would be a forecast."""
        text = f"{self.symbol}: {_percent(self.total, signed=True)} from {self.start} to {self.end}"
        if _month_number(self.end) - _month_number(self.start) < _MONTHS_A_YEAR:
            return text
        return f"{text} ({_percent(self.annualised, decimals=1, signed=True)} a year)"


@dataclass(frozen=True, slots=True)
class Volatility:
    """How much a price swings: the annualised standard deviation of its monthly log returns."""

    symbol: str
    start: str
    end: str
    annualised: float

    @property
    def summary(self) -> str:
        """A year's swing, and over which period."""
        return (
            f"{self.symbol}: volatility {_percent(self.annualised, decimals=1)} a year from {self.start} to {self.end}"
        )


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of a period; without a peak and a trough when no close was below an earlier one.

    `recovered` is the first month after the trough that closed at the peak or above it, None if the period holds none.
    """

    symbol: str
    start: str
    end: str
    depth: float
    peak: str | None
    trough: str | None
    recovered: str | None

    @property
    def summary(self) -> str:
        """The fall, from when to when, and when it was made good."""
        if self.peak is None:
            return f"{self.symbol}: never below an earlier close from {self.start} to {self.end}"
        after = f"not recovered by {self.end}" if self.recovered is None else f"recovered in {self.recovered}"
        return f"{self.symbol}: fell {_percent(self.depth)} from {self.peak} to {self.trough} ({after})"


@dataclass(frozen=True, slots=True)
class Correlation:
    """How far two prices move together over the months they share: from -1 (opposite) to +1 (as one)."""

    first: str
    second: str
    start: str
    end: str
    coefficient: float

    @property
    def summary(self) -> str:
        """The coefficient, and over which period."""
        names = f"{self.first} and {self.second}"
        return f"{names}: correlation {self.coefficient:+.2f} from {self.start} to {self.end}"


def load_closes() -> dict[str, Series]:
    """The monthly closes that ship with perdure, by symbol in alphabetical order; `source.md` says whose they are."""
    text = resources.files("perdure.cli.demo").joinpath("closes.csv").read_text(encoding="utf-8")
    rows: dict[str, list[tuple[str, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["symbol"], []).append((row["month"], float(row["close"])))
    return {
        symbol: Series(symbol, tuple(month for month, _ in points), tuple(close for _, close in points))
        for symbol, points in rows.items()
    }


def price(closes: Mapping[str, Series], symbol: str, *, start: str | None = None, end: str | None = None) -> Price:
    """The last close of the period, with its lowest and its highest."""
    series = _period(closes, symbol, start, end, at_least=1)
    low, high = min(series.closes), max(series.closes)
    low_month, high_month = (series.months[series.closes.index(extreme)] for extreme in (low, high))
    return Price(symbol, series.months[-1], series.closes[-1], low, low_month, high, high_month)


def total_return(
    closes: Mapping[str, Series], symbol: str, *, start: str | None = None, end: str | None = None
) -> TotalReturn:
    """c(last) / c(first) - 1, and the same a year; needs two closes."""
    series = _period(closes, symbol, start, end, at_least=2)
    total = series.closes[-1] / series.closes[0] - 1
    yearly = annualised_return(total, months=len(series.closes) - 1)
    return TotalReturn(symbol, series.months[0], series.months[-1], total, yearly)


def annualised_return(total: float, *, months: int) -> float:
    """The yearly return that compounds to `total` in so many months: (1 + total) ** (12 / months) - 1.

    Raises:
        ValueError: `months` is below 1, or `total` loses more than everything.
    """
    if months < 1 or total < -1:
        raise ValueError(f"nothing to annualise: a return of {total} in {months} months")
    return math.pow(1 + total, _MONTHS_A_YEAR / months) - 1


def volatility(
    closes: Mapping[str, Series], symbol: str, *, start: str | None = None, end: str | None = None
) -> Volatility:
    """sqrt(12) × sqrt(Σ (r(t) - mean r)² / (n - 1)) over the n log returns of the period; needs three closes."""
    series = _period(closes, symbol, start, end, at_least=3)
    annualised = math.sqrt(_MONTHS_A_YEAR) * statistics.stdev(_log_returns(series))
    return Volatility(symbol, series.months[0], series.months[-1], annualised)


def drawdown(
    closes: Mapping[str, Series], symbol: str, *, start: str | None = None, end: str | None = None
) -> Drawdown:
    """The largest 1 - c(t) / max of c(s) for s ≤ t; of equal falls the first, of equal peaks the first."""
    series = _period(closes, symbol, start, end, at_least=1)
    depth, peak, trough, highest = 0.0, 0, 0, 0
    for at, close in enumerate(series.closes):
        if close > series.closes[highest]:
            highest = at
        fall = 1 - close / series.closes[highest]
        if fall > depth:
            depth, peak, trough = fall, highest, at
    months = series.months
    if depth == 0:
        return Drawdown(symbol, months[0], months[-1], 0.0, None, None, None)
    later = zip(months[trough:], series.closes[trough:], strict=True)
    recovered = next((month for month, close in later if close >= series.closes[peak]), None)
    return Drawdown(symbol, months[0], months[-1], depth, months[peak], months[trough], recovered)


def correlation(
    closes: Mapping[str, Series], first: str, second: str, *, start: str | None = None, end: str | None = None
) -> Correlation:
    """Pearson's Σ (a - mean a)(b - mean b) / sqrt(Σ (a - mean a)² × Σ (b - mean b)²) of the log returns a and b.

    Over the months of the period that both have. Needs four shared closes: two log returns always correlate by ±1.

    Raises:
        ValueError: also when one of the prices never changes, so that there is nothing to compare.
    """
    one, other = (
        _period(closes, first, start, end, at_least=1),
        _period(closes, second, start, end, at_least=1),
    )
    shared_start, shared_end = max(one.months[0], other.months[0]), min(one.months[-1], other.months[-1])
    one = _period(closes, first, shared_start, shared_end, at_least=4)
    other = _period(closes, second, shared_start, shared_end, at_least=4)
    try:
        coefficient = statistics.correlation(_log_returns(one), _log_returns(other))
    except statistics.StatisticsError as error:
        raise ValueError(f"{first} and {second}: a price that never changes correlates with nothing") from error
    return Correlation(first, second, shared_start, shared_end, coefficient)


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of at most `width` blocks, ▁ for the lowest value and █ for the highest; equal values give a level line.

    One block per value; more values than `width` are averaged in `width` runs of nearly equal length, in order.
    Values must be finite.
    """
    if width < 1:
        raise ValueError(f"a sparkline is at least 1 wide; got {width}")
    blocks = min(width, len(values))
    edges = [block * len(values) // blocks for block in range(blocks + 1)] if blocks else []
    levels = [statistics.fmean(values[left:right]) for left, right in pairwise(edges)]
    if not levels or math.isclose(min(levels), max(levels)):  # averages of equal values may differ in the last digit
        return _HEIGHTS[3] * blocks
    lowest, span = min(levels), max(levels) - min(levels)
    return "".join(_HEIGHTS[round((level - lowest) / span * (len(_HEIGHTS) - 1))] for level in levels)


def bar(value: float, largest: float, width: int) -> str:
    """A bar as long, in eighths of a block, as the size of `value` is of `largest`, which fills `width` blocks.

    The sign is left for the caller to show. What exceeds `largest` is cut off; what is not zero leaves at least ▏.
    """
    if width < 1 or not 0 <= largest < math.inf:
        raise ValueError(f"a bar is at least 1 wide and its largest value at least 0; got {width} and {largest}")
    size = min(abs(value), largest)
    if size == 0:
        return ""
    blocks, eighths = divmod(max(1, round(size / largest * width * 8)), 8)
    return "█" * blocks + _EIGHTHS[eighths]


def _period(closes: Mapping[str, Series], symbol: str, start: str | None, end: str | None, *, at_least: int) -> Series:
    """The closes of one symbol in the period; the one place that judges symbols and periods."""
    if symbol not in closes:
        raise LookupError(f"no closes of {symbol!r}; there are {', '.join(sorted(closes)) or 'none at all'}")
    whole = closes[symbol]
    series = whole.between(start, end)
    found = len(series.closes)
    if found < at_least:
        asked = f"{start or 'the beginning'} to {end or 'the end'}"
        kept = f"{whole.months[0]} to {whole.months[-1]}" if whole.months else "nothing"
        raise ValueError(f"{symbol}: {found} closes from {asked}, at least {at_least} needed; there is {kept}")
    return series


def _log_returns(series: Series) -> list[float]:
    return [math.log(later / earlier) for earlier, later in pairwise(series.closes)]


def _month_number(month: str) -> int:
    """Months since the year 0, so that neighbours differ by one."""
    if re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month) is None:
        raise ValueError(f"a month is written YYYY-MM, for instance 2004-08; got {month!r}")
    return int(month[:4]) * _MONTHS_A_YEAR + int(month[5:]) - 1


def _percent(fraction: float, *, decimals: int = 0, signed: bool = False) -> str:
    shown = round(fraction * 100, decimals) + 0.0  # adding zero turns -0.0, shown as "-0 %", into 0.0
    return f"{shown:{'+' if signed else ''},.{decimals}f} %"
