"""Processes that wait for each other say for whom, and not for ever."""

import contextlib
import socket
import threading

import pytest
from test_processes import free_address

from leaf_audio.training import meeting

pytestmark = pytest.mark.any_backend


@contextlib.contextmanager
def listening(address):
    """Listens at an address, as TensorFlow does once processes have met."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        yield


def test_processes_that_are_started_one_after_the_other_meet():
    addresses = [free_address() for _ in range(3)]
    have_met = threading.Barrier(4, timeout=60)

    def join(index):
        others = addresses[:index] + addresses[index + 1 :]
        meeting.wait_for_addresses(addresses[index], others, limit=30)
        with listening(addresses[index]):
            have_met.wait()

    for i in range(3):
        threading.Timer(0.3 * i, join, [i]).start()
    # A process that does not meet the others breaks it.
    have_met.wait()


def test_who_is_missing_is_told_and_then_an_error():
    own, missing = free_address(), free_address()
    told = []
    with pytest.raises(ValueError, match=f"no answer from {missing}"):
        meeting.wait_for_addresses(
            own, [missing], told.append, tell_after=0.1, limit=0.5
        )
    assert told == [
        f"{own} waits for {missing} to be started, for at most 0.5 s"
    ]


def test_a_port_in_use_is_told():
    address = free_address()
    with (
        listening(address),
        pytest.raises(ValueError, match="a port that is free. Received: "),
    ):
        meeting.wait_for_addresses(address, [])


def test_a_library_that_waits_is_ended():
    told, codes = [], []
    ended = threading.Event()

    def end(code):
        codes.append(code)
        ended.set()

    with meeting.limited_wait("them", told.append, 0.1, 0.3, end):
        assert ended.wait(30)
    assert told == [
        "waits for them, for at most 0.3 s",
        "Error: them must be there within 0.3 s, and is not.",
    ]
    assert codes == [1]


def test_a_short_wait_says_nothing():
    told = []
    with meeting.limited_wait("them", told.append, 0.2, 0.3, told.append):
        pass
    assert not threading.Event().wait(0.5)
    assert not told
