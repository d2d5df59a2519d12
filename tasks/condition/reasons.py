"""The reasons of a condition: what each is, what it means for a backtest, and from which share on data is degraded."""

import dataclasses
import enum


class Condition(enum.StrEnum):
    """How far a market or a day can be used; the later, the worse."""

    GOOD = "good"
    DEGRADED = "degraded"
    PARTIAL = "partial"
    MISSING = "missing"


RANK = {condition: number for number, condition in enumerate(Condition)}


@dataclasses.dataclass(frozen=True)
class Reason:
    """A reason. title: two or three words; text: one sentence that explains it; share: the share of the messages from
    which on the data is degraded; 0: from the first one; None: a note, which does not change the condition.
    """

    title: str
    text: str
    share: float | None = 0.0


REASONS = {
    "gap": Reason(
        "gap",
        "No message for longer than is usual in this market (in play, shorter silences count): a backtest would trade"
        " at prices that had long changed.",
    ),
    "no_first_image": Reason(
        "no first image",
        "The first stored message has no ladder: until the first ladder, the book is unknown and nothing can be"
        " matched.",
    ),
    "crossed_book": Reason(
        "crossed book",
        "The best back price is not below the best lay price: the snapshot mixes two moments, and a backtest would make"
        " a profit that nobody could have made.",
        share=0.01,
    ),
    "off_ladder_price": Reason(
        "price off the ladder",
        "A price is not one of Betfair's 350: no order can be placed at it. (If more than a twentieth of the rows"
        " have such prices, the market uses another price ladder, and this is only a note.)",
    ),
    "levels_out_of_order": Reason(
        "levels out of order",
        "A level has a price no worse than the level before it: the depth of that snapshot cannot be trusted.",
    ),
    "repeated_publish_time": Reason(
        "repeated publish time",
        "Rows with the same publish time were received at different times: two snapshots overlap.",
    ),
    "negative_latency": Reason(
        "negative latency",
        "Rows were received before they were published: the clocks disagree, so latency and the order across markets"
        " cannot be trusted.",
    ),
    "high_latency": Reason(
        "high latency",
        "Rows were received more than five seconds after they were published: a live strategy would have seen them"
        " that late.",
        share=0.01,
    ),
    "volume_fell": Reason(
        "traded volume fell",
        "A runner has less traded volume than in the previous message: a void, a removal, a settlement or a restart of"
        " the recorder; differences of volume are wrong there.",
        share=0.01,
    ),
    "no_metadata": Reason(
        "no metadata", "Type, event and start are unknown: the market cannot be selected by them.", share=None
    ),
    "no_runner_name": Reason(
        "no runner name", "Runners have a selection id but no name: results have to be joined by the id.", share=None
    ),
    "runner_without_ticks": Reason(
        "runner without ticks",
        "The metadata lists runners without a stored tick: they never had a price, or were removed earlier.",
        share=None,
    ),
    "in_play_unknown": Reason(
        "in play unknown",
        "Nothing says whether the market went in play: gaps are judged as before the off.",
        share=None,
    ),
    "below_usual": Reason(
        "far below usual",
        "The day has far fewer ticks or markets than the median of the days before: compare it with the calendar"
        " before you use it.",
    ),
    "markets_without_ticks": Reason(
        "markets without ticks",
        "The database lists markets of this day for which no tick was stored: they are missing from every average.",
        share=None,
    ),
    "not_over": Reason("day not over", "The day was still being recorded: the rest of it is missing."),
}
