"""What a line about a step says: how much is done, how fast, how long it takes, and that it fits."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from classifold.step_line import Step, cut, format_seconds


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_says_how_much_is_done_how_fast_and_how_long_it_takes(clock: Clock) -> None:
    step = Step("reading the pictures", 2000, clock=clock)
    clock.now += 4
    step.advance(640)
    assert step.format_line() == "reading the pictures: 640 of 2,000 pictures, 160/s, 8 s left"


def test_bytes_are_shown_as_megabytes_or_gigabytes(clock: Clock) -> None:
    small = Step("sending", 40_300_000, unit="bytes", clock=clock)
    large = Step("sending", 12_000_000_000, unit="bytes", clock=clock)
    clock.now += 10
    small.advance(20_000_000)
    large.advance(3_000_000_000)
    assert small.format_line() == "sending: 20.0 of 40.3 MB, 2.0 MB/s, 10 s left"
    assert large.format_line() == "sending: 3.0 of 12.0 GB, 300.0 MB/s, 30 s left"


def test_without_a_total_a_line_counts_and_without_a_count_it_tells_the_time(clock: Clock) -> None:
    counted, waiting = Step("looking for pictures", None, clock=clock), Step("writing", None, clock=clock)
    clock.now += 2
    assert waiting.format_line() == "writing"
    clock.now += 15
    counted.advance(34_000)
    assert counted.format_line() == "looking for pictures: 34,000 pictures so far, 2,000/s"
    assert waiting.format_line() == "writing: 17 s so far"


def test_a_step_of_which_nothing_is_done_yet_promises_no_time(clock: Clock) -> None:
    step = Step("reading", 10, clock=clock)
    clock.now += 20
    assert step.format_line() == "reading: 0 of 10 pictures"


@pytest.mark.parametrize(("done", "rate"), [(50, "5.0/s"), (2, "12.0/min"), (1, "6.0/min")])
def test_a_slow_step_has_its_speed_in_figures_that_say_something(clock: Clock, done: int, rate: str) -> None:
    step = Step("training", 100, clock=clock)
    clock.now += 10
    step.advance(done)
    assert f", {rate}, " in step.format_line()


def test_what_an_earlier_process_did_counts_as_done_and_not_for_the_speed(clock: Clock) -> None:
    step = Step("training", 1000, done=900, clock=clock)
    clock.now += 10
    step.advance(50)
    assert step.format_line() == "training: 950 of 1,000 pictures, 5.0/s, 10 s left"


def test_the_speed_is_that_of_the_latest_half_of_the_step(clock: Clock) -> None:
    step = Step("reading", 10_000, clock=clock)
    for _ in range(20):
        clock.now += 1
        step.advance(100)
    for _ in range(30):
        clock.now += 1
        step.advance(10)
    assert step.measure_rate() == pytest.approx(10)
    for _ in range(100):
        clock.now += 1
        step.advance(10)
    assert step.measure_rate() == pytest.approx(10)


def test_the_time_left_is_steady_where_the_work_stops_now_and_then(clock: Clock) -> None:
    step = Step("training", 4000, clock=clock)
    for _ in range(10):
        clock.now += 30
        for _ in range(30):
            clock.now += 1
            step.advance(10)
    clock.now += 15
    # On average it does 300 pictures a minute, so the 1,000 that are left take 3 min 20 s.
    assert step.format_line().endswith("/s, 3 min 29 s left")


def test_hours_of_work_take_no_memory(clock: Clock) -> None:
    step = Step("reading", 10**9, clock=clock)
    for _ in range(100_000):
        clock.now += 1
        step.advance(100)
        if clock.now % 15 == 0:
            assert step.measure_rate() == pytest.approx(100, rel=0.02)
    assert len(step._samples) < 1000


def test_a_step_that_stands_still_becomes_slower(clock: Clock) -> None:
    step = Step("reading", 10_000, clock=clock)
    clock.now += 10
    step.advance(100)
    clock.now += 10
    assert step.measure_rate() == pytest.approx(5)
    clock.now += 100
    assert step.measure_rate() < 1


LONG = "sending 3 of 7,000 files from /a/very/long/path/花花花花花花花花花花花花花花花花花花/to/the/pictures"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("description", ["reading", "computing features of the training pictures", LONG])
@pytest.mark.parametrize(
    ("total", "unit"), [(None, "pictures"), (1_234_567, "pictures"), (9 * 10**9, "bytes")]
)
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_line_fits_the_terminal_whatever_its_width(
    clock: Clock, width: int, description: str, total: int | None, unit: str, is_ascii: bool
) -> None:
    step = Step(description, total, unit=unit, clock=clock)
    clock.now += 3000
    step.advance(123_456)
    line = step.draw(width, is_ascii=is_ascii).join()
    assert cell_len(line) < width
    assert "123,456" in line or "0.0" in line
    if width >= 60:
        assert line.startswith(description[:12])
        assert total is None or " left" in line
    if description != LONG:
        assert not is_ascii or line.isascii()


def test_a_bar_fills_with_what_is_done(clock: Clock) -> None:
    step = Step("reading", 16, clock=clock)
    step.advance(4)
    drawn = step.draw(80)
    assert (drawn.done, drawn.rest) == ("━" * 4, "╌" * 12)
    step.advance(12)
    assert step.draw(80).done == "━" * 16
    step.advance(5)  # more than was announced
    assert step.draw(80).rest == ""


def test_a_narrow_terminal_drops_the_speed_then_the_bar_before_words_are_cut(clock: Clock) -> None:
    step = Step("computing features of the pictures", 20_000, clock=clock)
    clock.now += 10
    step.advance(5000)
    assert [step.draw(width).join() for width in (100, 76, 69, 60, 50)] == [
        "computing features of the pictures ━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 5,000/20,000  500/s  30 s left",
        "computing features of the pictures ━━╌╌╌╌╌╌ 5,000/20,000  500/s  30 s left",
        "computing features of the pictures ━━╌╌╌╌╌╌ 5,000/20,000  30 s left",
        "computing features of the pictures 5,000/20,000  30 s left",
        "computing features of th… 5,000/20,000  30 s left",
    ]


def test_the_pictures_of_an_epoch_are_counted_and_the_time_left_is_that_of_all(clock: Clock) -> None:
    step = Step("fine-tuning", 3350, clock=clock)
    clock.now += 10
    step.advance(335)
    step.begin_part("fine-tuning epoch 2/10", size=335, start=335)
    assert step.format_line() == "fine-tuning epoch 2/10: 0 of 335 pictures, 34/s, 1 min 30 s left in all"
    step.advance(134)
    assert step.draw(60).join() == "fine-tuning epoch 2/10 134/335  1 min 01 s left in all"
    wide = "fine-tuning epoch 2/10 ━━━━━━╌╌╌╌╌╌╌╌╌╌ 134/335  47/s  1 min 01 s left in all"
    assert step.draw(80).join() == wide
    step.advance(500)  # more than was announced
    assert "335/335" in step.draw(60).join()


def test_control_characters_of_a_name_are_escaped(clock: Clock) -> None:
    step = Step("reading \x1b[2J", 3, clock=clock)
    assert "\x1b" not in step.format_line()
    assert "\x1b" not in step.draw(60).join()


def test_a_text_is_cut_by_columns_since_wide_characters_take_two() -> None:
    assert cut("花花花花", 8) == "花花花花"
    assert cut("花花花花", 7) == "花花花…"
    assert cut("花花花花", 6, is_ascii=True) == "花..."
    assert cut("花", 0) == ""


def test_durations_are_told_in_the_units_that_a_person_would_use() -> None:
    assert [format_seconds(one) for one in (0.4, 59.4, 185, 7810)] == [
        "0 s",
        "59 s",
        "3 min 05 s",
        "2 h 10 min",
    ]
