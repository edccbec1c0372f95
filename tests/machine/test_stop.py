"""Stop requests: the first signal asks, the second interrupts."""

from __future__ import annotations

import select
import signal

import pytest

from cspbench.machine import stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop.stoppable("stopping soon"):
        stop.check()
        signal.raise_signal(number)
        assert stop.requested()
        assert select.select([stop.descriptor()], [], [], 0)[0]
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert capfd.readouterr().err == "stopping soon\n"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not stop.requested()
    assert not select.select([stop.descriptor()], [], [], 0)[0]
