"""Results of several threads in the order of the items, with a bound on those ahead."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from trainer.runtime.in_order import in_order


def test_results_are_in_the_order_of_the_items_whichever_is_ready_first():
    second_is_done = Event()

    def act(number):
        if number == 0:
            assert second_is_done.wait(60)
        if number == 1:
            second_is_done.set()
        return number

    with ThreadPoolExecutor(2) as pool:
        assert list(in_order(pool, act, range(5), 3)) == [0, 1, 2, 3, 4]


def test_items_are_taken_only_as_far_ahead_as_allowed():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda number: number, items(), 4)
        assert taken == []
        assert next(results) == 0
        assert taken == [0, 1, 2, 3]
        assert next(results) == 1
        assert taken == [0, 1, 2, 3, 4]


def test_items_that_nobody_waits_for_are_not_begun():
    begun, may_end = [], Event()

    def act(number):
        begun.append(number)
        if number:
            assert may_end.wait(60)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, act, range(10), 4)
        assert next(results) == 0
        results.close()
        may_end.set()
    assert set(begun) <= {0, 1}


def test_an_error_is_raised_at_its_item():
    def act(number):
        if number == 2:
            raise ValueError(number)
        return number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, act, range(5), 5)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="2"):
            next(results)
