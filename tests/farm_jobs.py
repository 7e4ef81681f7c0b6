"""Jobs for the tests of parallel work; imports nothing, so that processes start at once."""

import os
import signal
import time


def square(number: int) -> int:
    """Crashes on 3, hangs on 5."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        time.sleep(60)
    return number**2


def raises(number: int) -> int:
    """Always."""
    raise ZeroDivisionError(f"job {number}")
