"""Several processes do the same after the same step."""

import concurrent.futures
import threading

import pytest

from leaf_audio.training import agreement, processes
from leaf_audio.training.agreement import Agreement

pytestmark = pytest.mark.any_backend


def test_a_process_by_itself_does_what_it_wishes_after_each_step():
    alone = Agreement()
    for wish in (False, True, False):
        assert alone.after_step(wish, not wish) == [wish, not wish]
        assert alone.now(wish) == [wish]


@pytest.fixture
def run_two(monkeypatch):
    """Runs steps in two threads that stand for processes, each with a clock.

    Of each process, it takes the seconds of its steps, and a function from the
    number of a step to a wish. It returns by process what is known after the
    steps at which they asked each other.
    """
    own = threading.local()
    barrier = threading.Barrier(2, timeout=20)
    told = [[], []]

    def largest(values):
        told[own.number] = values
        barrier.wait()
        found = [max(some) for some in zip(*told, strict=True)]
        barrier.wait()
        own.has_asked = True
        return found

    def train(number, seconds, wish):
        own.number, own.clock = number, 0.0
        mine, answers = Agreement(), {}
        for step, duration in enumerate(seconds, 1):
            own.clock += duration
            own.has_asked = False
            answer = mine.after_step(wish(step))
            if own.has_asked:
                answers[step] = answer
        return answers

    def run(seconds, wishes):
        monkeypatch.setattr(processes, "position", lambda: (0, 2))
        monkeypatch.setattr(processes, "largest", largest)
        monkeypatch.setattr(agreement.time, "monotonic", lambda: own.clock)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(train, (0, 1), seconds, wishes))

    return run


def never(step):
    return False


def test_processes_ask_each_other_every_two_seconds(run_two):
    # One process is slower to begin, and reads its clock otherwise.
    seconds = [[20.0, *[0.1] * 999], [5.0, *[0.09] * 999]]
    one, other = run_two(seconds, [never, never])
    assert one == other
    asked = sorted(one)
    assert asked[:2] == [1, 2]
    gaps = [b - a for a, b in zip(asked, asked[1:], strict=False)]
    assert all(19 <= gap <= 20 for gap in gaps[-10:])
    assert all(b <= 2 * a for a, b in zip(gaps, gaps[1:], strict=False))


def test_they_do_not_ask_too_late_where_steps_become_slow(run_two):
    seconds = [[*[0.001] * 500, *[0.5] * 100]] * 2
    one, other = run_two(seconds, [never, never])
    assert one == other
    asked = sorted(one)
    gaps = [b - a for a, b in zip(asked, asked[1:], strict=False)]
    assert max(gaps) == 50
    assert gaps[-1] == 4


def test_the_wish_of_one_process_is_that_of_all(run_two):
    seconds = [[0.1] * 200] * 2
    answers = run_two(seconds, [never, lambda step: step >= 100])
    for one in answers:
        assert {step for step, (wish,) in one.items() if wish} == {
            step for step in one if step >= 100
        }
        assert max(one) >= 180
