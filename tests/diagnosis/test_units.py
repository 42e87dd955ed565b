from __future__ import annotations

import pytest

from diagnosis.base.units import (
    GIB,
    KIB,
    MIB,
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("65536", 65_536),
        ("512b", 512),
        ("64k", 64 * KIB),
        ("64KiB", 64 * KIB),
        ("1m", MIB),
        (" 1.5 GiB ", 3 * GIB // 2),
        ("2000MiB", 2000 * MIB),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "1e6", "64 kilobytes", "1,5GiB", "nan", "0x10", "1 2", "64KiB/s"])
def test_what_is_no_size_is_refused_by_name_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no size: .*64KiB") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["1152921504606847976", "1073741825GiB", "99999999999999999999", "9" * 400])
def test_a_size_above_what_a_machine_addresses_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"is too large: a size is from 0 to 1073741824GiB") as caught:
        parse_size(text)
    assert text[:30] in str(caught.value)
    assert len(str(caught.value)) < 150
    assert parse_size("1073741824GiB") == 1 << 60


@pytest.mark.parametrize("text", ["87601h", "9" * 400])
def test_a_duration_above_ten_years_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"is too long: a duration is from 0 to 87600h") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 150
    assert parse_duration("87600h") == 87_600 * 3600


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("1.5m", 90), ("15 min", 900), ("1H", 3600)]
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5", "inf", "nan", "1h30m", "10 days", "5ms"])
def test_what_is_no_duration_is_refused_by_name_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration: .*15m") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (64 * KIB, "64.0 KiB"),
        (256 * KIB, "256 KiB"),
        (MIB, "1.00 MiB"),
        (1536 * KIB, "1.50 MiB"),
        (2000 * MIB, "1.95 GiB"),
        (-64 * KIB, "-64.0 KiB"),
        (10 * MIB - 1, "10.0 MiB"),
        (100 * KIB - 1, "100 KiB"),
        (1010 * MIB, "1010 MiB"),
        (MIB - KIB, "1023 KiB"),
        (MIB - 1, "1.00 MiB"),
        (1023.7, "1.00 KiB"),
    ],
)
def test_a_size_is_written_with_three_figures_and_a_unit(count: int, text: str) -> None:
    assert format_size(count) == text


def test_a_size_that_is_written_reads_back_within_its_three_figures() -> None:
    for exponent in range(10, 40):
        for count in (1 << exponent, (1 << exponent) + (1 << exponent) // 3):
            assert parse_size(format_size(count)) == pytest.approx(count, rel=0.005)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (4.25, "4.2s"),
        (45, "45s"),
        (59.9, "59s"),
        (60, "1m 00s"),
        (725, "12m 05s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (3725, "1h 02m"),
    ],
)
def test_a_duration_is_written_with_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(30, "30s"), (150.4, "150s"), (1500, "25m"), (36_000, "10h")])
def test_a_duration_to_type_is_read_as_what_it_says(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text
    assert parse_duration(text) == round(seconds)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (5000, "5000"), (3 * KIB, "3KiB"), (2000 * MIB, "2000MiB"), (64 * GIB, "64GiB")]
)
def test_a_size_to_type_is_exact(count: int, text: str) -> None:
    assert write_size(count) == text
    assert parse_size(text) == count


@pytest.mark.parametrize(("count", "text"), [(0, "0 frees"), (1, "1 free"), (1200, "1,200 frees")])
def test_a_count_is_written_with_its_thing(count: int, text: str) -> None:
    assert format_count(count, "free") == text
