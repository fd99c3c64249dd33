"""Reading ahead in a thread: few results, in order, with their errors, and signs of progress in one thread alone."""

import threading

import pytest

from pipelines.media.prefetch import ThreadProgress, read_ahead


def test_few_results_are_read_ahead_and_errors_come_in_their_turn():
    computed = []

    def numbers():
        for number in range(20):
            computed.append(number)
            yield number
        raise ValueError("odd")

    drawn = []
    with pytest.raises(ValueError, match="odd"):
        for number in read_ahead(numbers(), ThreadProgress(lambda: None), max_waiting=3):
            drawn.append(number)
            assert len(computed) - len(drawn) <= 3 + 1
    assert drawn == list(range(20))


def test_who_stops_early_closes_what_is_read():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    ahead = read_ahead(endless(), ThreadProgress(lambda: None))
    assert next(ahead) == 1 and not closed
    ahead.close()
    assert closed == [True]


def test_signs_of_another_thread_are_passed_on_by_the_reading_thread():
    threads = []
    signs = ThreadProgress(lambda: threads.append(threading.get_ident()))

    def reading():
        for _ in range(5):
            signs()
            yield 0

    signs()
    assert list(read_ahead(reading(), signs)) == [0] * 5
    assert set(threads) == {threading.get_ident()}
    assert len(threads) >= 2
