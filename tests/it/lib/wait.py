"""The one place where a test waits for something that it cannot be told about: looks again until a deadline. Never a fixed sleep."""
import threading
import time

_never = threading.Event()
DEADLINE = 20.0  # seconds; a shared machine may be slow


def until(look, what, deadline=DEADLINE, every=0.02):
    """Returns the first truthy result of look(); fails with `what` when the deadline passes. `every`: seconds between two looks, for what limits them."""
    end = time.monotonic() + deadline
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        _never.wait(every)
