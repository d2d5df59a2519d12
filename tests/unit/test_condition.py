"""Condition: each reason is found where it is planted, with its interval, and a clean market is not blamed."""

import dataclasses
import datetime
import json

import numpy as np
import pytest

from tasks.condition import export_condition, market_condition
from tasks.condition.reasons import REASONS, Condition
from tasks.statistics import statistics_store, tick_statistics
from tasks.statistics.betfair_ladder import HUNDREDTHS, is_on_ladder
from tasks.statistics.tick_statistics import StatisticsCounter, latency_bin, latency_of_bin
from tasks.ticks.tick_arrays import TRADED, Ticks
from tasks.ticks.value_text import time_text
from tests.unit.invented_markets import (
    HOUR,
    MINUTE,
    OFF,
    RUNNERS,
    SECOND,
    START,
    every,
    export_of,
    market,
    message,
    metadata,
    random_pace,
)


def judged(messages, about=None, piece: int = 40):
    """Judge messages that come in pieces."""
    counter = StatisticsCounter()
    for start in range(0, len(messages), piece):
        counter.add(Ticks.concatenate(messages[start : start + piece]))
    statistics = json.loads(json.dumps(counter.statistics()))
    return market_condition.judge("1.1", statistics, metadata() if about is None else about), statistics


def reasons(condition):
    """Return the reasons of a condition, notes aside."""
    return {found.reason: found for found in condition.found if not found.is_note}


@pytest.mark.parametrize("step_s", [180, 5, 0.5])
def test_a_clean_market_is_good_at_whatever_pace_it_is_recorded(step_s):
    condition, _ = judged(market(every(step_s, 3 if step_s > 1 else 0.2)))
    assert condition.condition == Condition.GOOD and not condition.found


@pytest.mark.parametrize("mean_s", [0.5, 4, 60, 400])
@pytest.mark.parametrize("seed", range(5))
def test_a_clean_market_of_random_pace_is_not_blamed(mean_s, seed):
    counter = StatisticsCounter()
    times = random_pace(mean_s, 0.5 if mean_s < 1 else 5 if mean_s < 100 else 50, seed)
    counter.add(Ticks.concatenate([message(int(time), 100.0) for time in times]))
    condition = market_condition.judge("1.1", counter.statistics(), metadata(inPlay=False))
    assert condition.condition == Condition.GOOD, condition


def test_a_market_that_slows_down_at_night_is_not_blamed():
    day, night = every(20, 2), START + 2 * HOUR + np.arange(60) * 8 * MINUTE
    morning = int(night[-1]) + np.arange(1, 200) * 20 * SECOND
    condition, _ = judged(market([*day, *night, *morning]), metadata(inPlay=False))
    assert condition.condition == Condition.GOOD, condition.found


@pytest.mark.parametrize(("step_s", "cut"), [(180, 10 * MINUTE), (5, 3 * MINUTE), (1, 10 * MINUTE)])
def test_minutes_that_are_cut_out_are_a_gap_to_the_microsecond(step_s, cut):
    times = every(step_s, 2)
    lower = START + 40 * MINUTE + 1
    kept = times[(times < lower) | (times >= lower + cut)]
    condition, _ = judged(market(kept))
    (gap,) = reasons(condition).values()
    assert gap.reason == "gap" and gap.count == 1
    assert gap.intervals == [(int(kept[kept < lower][-1]), int(kept[kept >= lower][0]), 1)]
    assert condition.condition in (Condition.DEGRADED, Condition.PARTIAL)


def test_a_shorter_silence_is_a_gap_in_play_only():
    times = every(5, 3)
    for lower, expected in ((START + HOUR, 0), (OFF + HOUR // 2, 1)):
        kept = times[(times < lower) | (times >= lower + 60 * SECOND)]
        condition, _ = judged(market(kept))
        assert len(reasons(condition)) == expected, lower
        unknown, _ = judged(market(kept), metadata(inPlay=None))
        assert not reasons(unknown) and [found.reason for found in unknown.found] == ["in_play_unknown"]


def planted(reason):
    """Return a clean market of 400 messages with a reason planted in messages 50 to 55, and how often it is met."""
    messages, where = market(every(10, 400 * 10 / 3600)), range(50, 56)
    count = len(where)
    for number in where:
        ticks = messages[number]
        price, received = ticks.price.copy(), ticks.received_at.copy()
        if reason == "crossed_book":
            price[(ticks.side == 0) & (ticks.level == 0) & (ticks.selection_id == 12)] = 2.02
        elif reason == "levels_out_of_order":
            price[(ticks.side == 1) & (ticks.level == 2) & (ticks.selection_id == 11)] = 2.04
        elif reason == "off_ladder_price":
            price[(ticks.side == TRADED) & (ticks.selection_id == 11) & (ticks.price == 2.0)] = 2.01
        elif reason == "repeated_publish_time":
            received[-3:] += 5
        elif reason == "negative_latency":
            received[:] = ticks.publish_time - 1
        elif reason == "high_latency":
            received[:] = ticks.publish_time + 6 * SECOND
        messages[number] = dataclasses.replace(ticks, price=price, received_at=received)
    if reason == "volume_fell":
        for number in where:
            messages[number] = message(int(messages[number].publish_time[0]), 90.0 - number)
        count *= len(RUNNERS)
    return messages, count


@pytest.mark.parametrize("reason", tick_statistics.REASONS)
@pytest.mark.parametrize("piece", [1, 7, 400])
def test_a_planted_fault_is_found_with_count_and_interval_however_the_ticks_come(reason, piece):
    messages, count = planted(reason)
    condition, _ = judged(messages, piece=piece)
    assert condition.condition == Condition.DEGRADED
    (found,) = reasons(condition).values()
    first, last = (int(messages[number].publish_time[0]) for number in (50, 55))
    assert (found.reason, found.count, found.messages) == (reason, count, 6)
    assert found.intervals == [(first, last, count)] and found.days == {first // (24 * HOUR): count}


def test_a_few_crossed_books_among_very_many_are_a_note():
    messages, _ = planted("crossed_book")
    more = market(every(1, 0.6) + HOUR * 2)
    condition, _ = judged([*messages, *more], metadata(inPlay=False))
    assert "crossed_book" not in reasons(condition)
    assert [found.count for found in condition.found if found.reason == "crossed_book"] == [6]


def test_a_market_on_another_ladder_is_not_blamed_for_its_prices():
    messages = [dataclasses.replace(one, price=one.price + 0.005) for one in market(every(30))]
    condition, _ = judged(messages)
    assert condition.condition == Condition.GOOD and [one.reason for one in condition.found] == ["off_ladder_price"]


def test_a_first_message_without_a_ladder():
    messages = market(every(30))
    messages[0] = messages[0][messages[0].side == TRADED]
    condition, _ = judged(messages)
    assert condition.condition == Condition.PARTIAL and list(reasons(condition)) == ["no_first_image"]


def test_what_the_metadata_lacks_is_a_note():
    about = metadata(inPlay=None)
    about["runners"] = [{"selectionId": 11, "runnerName": "One", "handicap": None}] + [
        {"selectionId": one, "runnerName": None, "handicap": None} for one in (12, 99)
    ]
    condition, statistics = judged(market(every(30)), about)
    assert condition.condition == Condition.GOOD
    assert {found.reason: found.count for found in condition.found} == {
        "no_runner_name": 3,
        "runner_without_ticks": 1,
        "in_play_unknown": 1,
    }
    assert [one.reason for one in market_condition.judge("1.1", statistics, None).found] == ["no_metadata"]
    empty = StatisticsCounter().statistics()
    assert market_condition.judge("1.1", empty, metadata()).condition == Condition.MISSING


def test_statistics_do_not_depend_on_how_the_ticks_come():
    messages = market(random_pace(7))
    found = []
    for piece in (1, 13, len(messages)):
        counter = StatisticsCounter()
        for start in range(0, len(messages), piece):
            counter.add(Ticks.concatenate(messages[start : start + piece]))
        found.append(counter.statistics())
    assert found[0] == found[1] == found[2] and found[0]["messages"] == len(messages)
    ticks = Ticks.concatenate(messages)
    batches = [ticks[start : start + 1_000] for start in range(0, len(ticks), 1_000)]  # through the middle of messages
    counter = StatisticsCounter()
    for part in statistics_store._whole_messages(batches):
        counter.add(part)
    assert counter.statistics() == found[0]


def test_the_ladder_is_betfairs():
    assert len(HUNDREDTHS) == 350 and is_on_ladder(HUNDREDTHS / 100).all()
    wrong = np.array([1.0, 1.005, 2.01, 3.02, 1000.5, 1010, -2, 0, np.nan, np.inf, 1e300])
    assert not is_on_ladder(wrong).any()


def test_latencies_lie_below_the_edge_of_their_bin():
    latency = np.array([-5, 0, 999, 1_000, 1_500, 250_000, 10**12])
    edges = [latency_of_bin(width) * 1000 for width in latency_bin(latency).tolist()]
    assert all(value < edge or edge == 0 and value < 0 for value, edge in zip(latency[:-1].tolist(), edges))


def test_ten_hours_cut_out_of_a_day_stand_in_its_condition(tmp_path):
    from tasks.storage.layout import Layout

    last = START // (24 * HOUR) * 24 * HOUR + 4 * 24 * HOUR
    cut = last + 3 * HOUR, last + 13 * HOUR
    date = export_condition.date_of(last // (24 * HOUR))
    today = date + datetime.timedelta(days=1)
    whole = export_condition.judge(Layout(tmp_path), export_of(5), 50, today, {})
    assert [day.condition for day in whole.days] == [Condition.GOOD] * 5
    assert export_condition.told(whole, date) == ""
    unknown = {last // (24 * HOUR): ["1.7", "1.8"]}
    judged = export_condition.judge(Layout(tmp_path), export_of(5, cut=cut), 70, today, unknown)
    assert [day.condition for day in judged.days] == [Condition.GOOD] * 4 + [Condition.PARTIAL]
    day = judged.day(date)
    assert [found.intervals for found in day.found if found.reason == "gap"][0] == [
        (cut[0] - MINUTE, cut[1], 1)
    ], "the hole of the day"
    assert day.ticks < 0.7 * day.usual_ticks and "below_usual" in {found.reason for found in day.found}
    text = export_condition.told(judged, date)
    assert text.startswith(f"partial; nothing was recorded from {time_text(cut[0] - MINUTE)[:23]}Z to ")
    assert "(10 h 1 min)" in text and "% fewer ticks than the median of the days before" in text
    assert "2 markets known without ticks" in text
    read = json.loads(export_condition.render(judged))
    assert read["schema_version"] == 1 and read["counts"]["days"]["partial"] == 1
    assert read["days"][-1]["markets_without_ticks"] == ["1.7", "1.8"]
    assert export_condition.render(judged) == export_condition.render(judged)


def test_a_recorder_that_stopped_in_the_evening_is_told_by_the_days_before(tmp_path):
    from tasks.storage.layout import Layout

    midnight = START // (24 * HOUR) * 24 * HOUR + 5 * 24 * HOUR
    stopped = midnight - 8 * HOUR
    judged = export_condition.judge(
        Layout(tmp_path), export_of(5, cut=(stopped, midnight)), 0, export_condition.date_of(midnight // (24 * HOUR))
    )
    (hole,) = [found for found in judged.days[-1].found if found.intervals]
    assert hole.intervals == [(stopped - MINUTE, midnight, 1)] and judged.days[-1].condition == Condition.PARTIAL


def test_every_reason_says_what_it_is_in_one_sentence():
    for reason in REASONS.values():
        assert reason.text.endswith((".", ".)")) and ": " in reason.text or reason.title in ("gap", "no runner name")
