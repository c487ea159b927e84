"""The clock of the daemons under test: a page with microseconds that both their clocks add (base/clock.h, struct of eight bytes in native order)."""
import mmap
import os
import struct
import time


class Clock:
    def __init__(self, path):
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, 4096)
        self._page = mmap.mmap(fd, 4096)
        os.close(fd)

    @property
    def offset(self):
        """Seconds that the daemons' clocks are ahead."""
        return struct.unpack_from("=q", self._page)[0] / 1e6

    def now(self):
        """The daemons' wall clock, in seconds since 1970."""
        return time.time() + self.offset

    def advance(self, seconds):
        """Moves both clocks of all daemons on. They see it at their next look."""
        struct.pack_into("=q", self._page, 0, round((self.offset + seconds) * 1e6))
