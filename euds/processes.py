"""Child processes that leave Ctrl-C to their parent and never outlive it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that start in here never hear of Ctrl-C, which a terminal sends to all: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(alive: Connection) -> None:
    """End this process when its parent closes the other end of the pipe, or is killed, which closes it too."""

    def wait() -> None:
        alive.poll(None)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
