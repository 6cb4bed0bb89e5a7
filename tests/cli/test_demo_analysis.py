"""The demo's analysis says what the closes say; values by hand, or from the original file in `Decimal`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from perdure.cli.demo.analysis import (
    Series,
    annualised_return,
    bar,
    correlation,
    drawdown,
    load_closes,
    price,
    sparkline,
    total_return,
    volatility,
)

MEASURES: list[Callable[..., Any]] = [price, total_return, volatility, drawdown]
YEAR = tuple(f"2000-{month:02}" for month in range(1, 13))


@pytest.fixture(scope="module")
def real() -> Mapping[str, Series]:
    return load_closes()


def made_up(**closes: list[float]) -> dict[str, Series]:
    """Series that begin in 2000-01."""
    return {symbol: Series(symbol, YEAR[: len(values)], tuple(values)) for symbol, values in closes.items()}


# The data


def test_the_data_are_five_companies_over_the_period_that_source_md_names(real: Mapping[str, Series]) -> None:
    assert {symbol: len(series.closes) for symbol, series in real.items()} == {
        "AAPL": 123,
        "AMZN": 123,
        "GOOG": 68,
        "IBM": 123,
        "MSFT": 123,
    }
    assert {(series.months[0], series.months[-1]) for series in real.values()} == {
        ("2000-01", "2010-03"),
        ("2004-08", "2010-03"),
    }
    assert list(real) == sorted(real)


def test_a_series_cuts_a_period_with_both_ends_in_it(real: Mapping[str, Series]) -> None:
    cut = real["AMZN"].between("2001-09", "2001-11")
    assert cut == Series("AMZN", ("2001-09", "2001-10", "2001-11"), (5.97, 6.98, 11.32))


@pytest.mark.parametrize(
    ("months", "closes"),
    [
        (("2000-01", "2000-03"), (1.0, 2.0)),
        (("2000-02", "2000-01"), (1.0, 2.0)),
        (("2000-01", "2000-02"), (1.0,)),
        (("2000-01", "2000-02"), (1.0, 0.0)),
        (("2000-01", "2000-02"), (1.0, math.nan)),
        (("2000-01", "2000-02"), (1.0, math.inf)),
        (("2000-01", "2000-13"), (1.0, 2.0)),
    ],
    ids=["gap", "backwards", "close missing", "zero", "not a number", "infinite", "no such month"],
)
def test_a_series_with_a_hole_in_it_is_refused(months: tuple[str, ...], closes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"without gaps|one close above zero|YYYY-MM"):
        Series("X", months, closes)


def test_neighbouring_months_may_lie_in_two_years() -> None:
    assert Series("X", ("1999-12", "2000-01"), (1.0, 2.0)).between("2000-01").closes == (2.0,)


# Price


def test_the_price_is_the_last_close_with_the_lowest_and_highest_of_the_period(real: Mapping[str, Series]) -> None:
    found = price(real, "AMZN", start="2001-01", end="2001-12")
    assert (found.month, found.close, found.low_month, found.low) == ("2001-12", 10.82, "2001-09", 5.97)
    assert price(real, "MSFT").summary == "MSFT: $28.80 in 2010-03 (low $15.81 in 2009-02, high $43.22 in 2000-03)"


def test_of_equal_extremes_the_first_is_named() -> None:
    found = price(made_up(X=[2, 1, 3, 1, 3]), "X")
    assert (found.low_month, found.high_month) == ("2000-02", "2000-03")


# Return


def test_a_return_is_that_of_the_ends_of_the_period() -> None:
    found = total_return(made_up(X=[100, 7, 250, 121]), "X")
    assert found.total == pytest.approx(0.21)
    assert found.annualised == pytest.approx(1.21**4 - 1)  # three months, four times a year


@pytest.mark.parametrize(
    ("symbol", "total", "annualised"),
    [
        ("AAPL", 7.5975327679, 0.2356788792),
        ("GOOG", 4.4722086549, 0.3558393546),
        ("MSFT", -0.2765636775, -0.0313418824),
    ],
)
def test_returns_agree_with_the_original_file(
    real: Mapping[str, Series], symbol: str, total: float, annualised: float
) -> None:
    found = total_return(real, symbol)
    assert found.total == pytest.approx(total)
    assert found.annualised == pytest.approx(annualised)


def test_a_doubling_in_two_years_is_the_square_root_of_two_a_year() -> None:
    assert annualised_return(1.0, months=24) == pytest.approx(math.sqrt(2) - 1)


@pytest.mark.parametrize("total", [-1.0, 0.0, 0.21])
def test_a_return_over_one_year_is_its_own_yearly_rate(total: float) -> None:
    assert annualised_return(total, months=12) == pytest.approx(total)


@pytest.mark.parametrize(("total", "months"), [(0.1, 0), (-1.01, 12)])
def test_what_cannot_be_annualised_is_refused(total: float, months: int) -> None:
    with pytest.raises(ValueError, match="nothing to annualise"):
        annualised_return(total, months=months)


def test_a_return_reads_as_one_line(real: Mapping[str, Series]) -> None:
    assert total_return(real, "AAPL").summary == "AAPL: +760 % from 2000-01 to 2010-03 (+23.6 % a year)"
    assert total_return(real, "MSFT").summary == "MSFT: -28 % from 2000-01 to 2010-03 (-3.1 % a year)"


def test_a_return_names_a_yearly_rate_from_a_whole_year_on(real: Mapping[str, Series]) -> None:
    assert "a year" not in total_return(real, "IBM", start="2008-01", end="2008-12").summary
    assert "a year" in total_return(real, "IBM", start="2008-01", end="2009-01").summary


def test_a_return_that_rounds_to_zero_is_not_shown_as_less_than_zero() -> None:
    assert total_return(made_up(X=[1000, 999]), "X").summary == "X: +0 % from 2000-01 to 2000-02"


# Volatility


def test_volatility_is_the_sample_deviation_of_log_returns_times_the_root_of_twelve() -> None:
    # log returns +ln 2, -ln 2: mean 0, squares 2 ln² 2, over n - 1 = 1
    assert volatility(made_up(X=[1, 2, 1]), "X").annualised == pytest.approx(math.sqrt(24) * math.log(2))


def test_a_price_that_grows_evenly_has_no_volatility() -> None:
    assert volatility(made_up(X=[1, 2, 4, 8]), "X").annualised == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("symbol", "annualised"), [("AAPL", 0.5468328269), ("AMZN", 0.5916800435), ("IBM", 0.2906256015)]
)
def test_volatilities_agree_with_the_original_file(real: Mapping[str, Series], symbol: str, annualised: float) -> None:
    assert volatility(real, symbol).annualised == pytest.approx(annualised)


def test_a_volatility_reads_as_one_line(real: Mapping[str, Series]) -> None:
    assert volatility(real, "AAPL").summary == "AAPL: volatility 54.7 % a year from 2000-01 to 2010-03"


# Drawdown


def test_a_drawdown_is_the_deepest_fall_from_an_earlier_peak_not_the_way_from_highest_to_lowest() -> None:
    found = drawdown(made_up(X=[5, 10, 4, 9, 20, 10, 30]), "X")  # 10 → 4 is 60 %, 20 → 10 only 50 %
    assert found.depth == pytest.approx(0.6)
    assert (found.peak, found.trough, found.recovered) == ("2000-02", "2000-03", "2000-05")


def test_a_drawdown_counts_as_recovered_at_the_very_close_of_the_peak() -> None:
    assert drawdown(made_up(X=[10, 5, 10]), "X").recovered == "2000-03"


def test_of_equal_falls_and_peaks_the_first_are_named() -> None:
    found = drawdown(made_up(X=[10, 10, 5, 10, 5]), "X")
    assert (found.peak, found.trough) == ("2000-01", "2000-03")


@pytest.mark.parametrize("closes", [[5.0], [5.0, 5.0], [1.0, 2.0, 3.0]])
def test_what_never_falls_has_neither_peak_nor_trough(closes: list[float]) -> None:
    found = drawdown(made_up(X=closes), "X")
    assert (found.depth, found.peak, found.trough, found.recovered) == (0, None, None, None)
    assert found.summary.startswith("X: never below an earlier close from 2000-01 to ")


def test_the_deepest_fall_of_amazon_was_that_of_the_dotcom_crash(real: Mapping[str, Series]) -> None:
    found = drawdown(real, "AMZN")
    assert found.depth == pytest.approx(1 - 5.97 / 68.87)
    assert found.summary == "AMZN: fell 91 % from 2000-02 to 2001-09 (recovered in 2007-05)"


def test_a_fall_that_the_period_does_not_make_good_is_not_recovered(real: Mapping[str, Series]) -> None:
    assert drawdown(real, "AMZN", end="2007-04").recovered is None
    assert drawdown(real, "GOOG").summary == "GOOG: fell 59 % from 2007-10 to 2008-11 (not recovered by 2010-03)"


# Correlation


def test_prices_that_move_alike_correlate_fully_and_mirrored_ones_inversely() -> None:
    closes = made_up(X=[1, 2, 1, 4], Y=[10, 20, 10, 40], Z=[8, 4, 8, 2])
    assert correlation(closes, "X", "Y").coefficient == pytest.approx(1)
    assert correlation(closes, "X", "Z").coefficient == pytest.approx(-1)


def test_a_correlation_by_hand() -> None:
    # in units of ln 2, X: 1, -1, 0 and Y: 1, 0, -1, both of mean 0: (1 + 0 + 0) / sqrt(2 × 2)
    assert correlation(made_up(X=[1, 2, 1, 1], Y=[1, 2, 2, 1]), "X", "Y").coefficient == pytest.approx(0.5)


def test_a_correlation_covers_the_months_that_both_have(real: Mapping[str, Series]) -> None:
    found = correlation(real, "AAPL", "GOOG", start="2003-01")
    assert found.coefficient == pytest.approx(0.56261709487216)
    assert found.summary == "AAPL and GOOG: correlation +0.56 from 2004-08 to 2010-03"


def test_a_correlation_is_the_same_either_way_round(real: Mapping[str, Series]) -> None:
    one, other = correlation(real, "MSFT", "IBM"), correlation(real, "IBM", "MSFT")
    assert one.coefficient == pytest.approx(other.coefficient) == pytest.approx(0.54401793468220)


def test_a_price_that_never_changes_correlates_with_nothing() -> None:
    with pytest.raises(ValueError, match="a price that never changes"):
        correlation(made_up(X=[1, 2, 3, 4], Y=[5, 5, 5, 5]), "X", "Y")


def test_a_correlation_needs_three_returns_because_two_always_agree(real: Mapping[str, Series]) -> None:
    with pytest.raises(ValueError, match="3 closes from 2004-08 to 2004-10, at least 4 needed"):
        correlation(real, "AAPL", "GOOG", end="2004-10")


def test_companies_without_a_shared_month_cannot_be_compared() -> None:
    closes = {"X": Series("X", ("2000-01",), (1.0,)), "Y": Series("Y", ("2001-01",), (1.0,))}
    with pytest.raises(ValueError, match="0 closes"):
        correlation(closes, "X", "Y")


# What all measures share


@pytest.mark.parametrize("measure", MEASURES)
def test_an_unknown_symbol_is_answered_with_those_there_are(
    real: Mapping[str, Series], measure: Callable[..., Any]
) -> None:
    with pytest.raises(LookupError, match="'TSLA'; there are AAPL, AMZN, GOOG, IBM, MSFT"):
        measure(real, "TSLA")


@pytest.mark.parametrize("pair", [("AAPL", "TSLA"), ("TSLA", "AAPL")])
def test_a_correlation_knows_both_its_symbols_or_none(real: Mapping[str, Series], pair: tuple[str, str]) -> None:
    with pytest.raises(LookupError, match="'TSLA'"):
        correlation(real, *pair)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("period", [("1990-01", "1999-12"), ("2010-04", None), ("2005-02", "2005-01")])
def test_an_empty_period_is_refused_with_what_there_is(
    real: Mapping[str, Series], measure: Callable[..., Any], period: tuple[str, str | None]
) -> None:
    start, end = period
    with pytest.raises(ValueError, match=r"GOOG: 0 closes from .* there is 2004-08 to 2010-03"):
        measure(real, "GOOG", start=start, end=end)


@pytest.mark.parametrize(("measure", "needs"), [(price, 1), (total_return, 2), (volatility, 3), (drawdown, 1)])
def test_a_measure_works_from_as_few_closes_as_it_says(
    real: Mapping[str, Series], measure: Callable[..., Any], needs: int
) -> None:
    measure(real, "IBM", end=YEAR[needs - 1])
    if needs > 1:
        with pytest.raises(ValueError, match=f"at least {needs} needed"):
            measure(real, "IBM", end=YEAR[needs - 2])


@pytest.mark.parametrize("month", ["2004", "2004-8", "2004-00", "2004-13", "2004-08-01", "2004-08\n", "٢٠٠٤-٠٨", ""])
@pytest.mark.parametrize("side", ["start", "end"])
def test_a_month_is_written_one_way(real: Mapping[str, Series], month: str, side: str) -> None:
    with pytest.raises(ValueError, match="YYYY-MM"):
        price(real, "IBM", **{side: month})


@pytest.mark.parametrize("measure", [total_return, volatility, drawdown])
def test_a_period_beyond_the_data_is_cut_and_the_result_says_so(
    real: Mapping[str, Series], measure: Callable[..., Any]
) -> None:
    found = measure(real, "GOOG", start="1990-01", end="2099-12")
    assert (found.start, found.end) == ("2004-08", "2010-03")


@pytest.mark.parametrize("measure", MEASURES)
def test_a_result_is_json_as_it_stands(real: Mapping[str, Series], measure: Callable[..., Any]) -> None:
    fields = dataclasses.asdict(measure(real, "IBM"))
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields


# Drawing


def test_a_sparkline_rises_from_the_lowest_block_to_the_highest() -> None:
    assert sparkline([10, 20, 30, 40, 50, 60, 70, 80], 8) == "▁▂▃▄▅▆▇█"


def test_a_sparkline_averages_what_does_not_fit() -> None:
    assert sparkline([0, 2, 8, 8, 3, 7], 3) == "▁█▅"  # 1, 8, 5: the last is 4/7 of the way


def test_a_sparkline_of_few_values_is_as_short_as_they_are() -> None:
    assert sparkline([2, 1], 40) == "█▁"


@pytest.mark.parametrize("width", [1, 7, 40, 122, 123, 500])
def test_a_sparkline_fits_its_width(real: Mapping[str, Series], width: int) -> None:
    assert len(sparkline(real["AAPL"].closes, width)) == min(width, 123)


@pytest.mark.parametrize(
    ("values", "width", "line"), [([], 5, ""), ([7], 5, "▄"), ([-1, -1], 5, "▄▄"), ([0.1] * 7, 2, "▄▄")]
)
def test_a_sparkline_of_nothing_is_empty_and_of_equals_level(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_a_sparkline_of_the_smallest_numbers_still_has_a_shape() -> None:
    assert sparkline([0.0, 5e-324], 2) == "▁█"


@pytest.mark.parametrize(
    ("value", "drawn"),
    [(8, "████"), (4, "██"), (5, "██▌"), (0.25, "▏"), (7.99, "████"), (1e-9, "▏"), (0, ""), (-4, "██"), (99, "████")],
)
def test_a_bar_is_as_long_as_its_value_is_of_the_largest(value: float, drawn: str) -> None:
    assert bar(value, 8, 4) == drawn


def test_bars_grow_by_eighths_of_a_block() -> None:
    lengths = [bar(eighths, 16, 2) for eighths in range(1, 17)]
    assert lengths == ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█", "█▏", "█▎", "█▍", "█▌", "█▋", "█▊", "█▉", "██"]
    assert all(shorter != longer for shorter, longer in pairwise(lengths))


def test_a_bar_among_zeros_is_empty() -> None:
    assert bar(0, 0, 10) == ""


@pytest.mark.parametrize("draw", [lambda: sparkline([1, 2], 0), lambda: bar(1, 2, 0), lambda: bar(1, -2, 5)])
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], str]) -> None:
    with pytest.raises(ValueError, match="at least"):
        draw()
