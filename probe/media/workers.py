"""A few threads that decode for everybody, as many as there are processors.

A thread for each stream was measured to cost a third more: viewers of one broadcast are sent each picture at the same instant,
and as many threads then fight for the interpreter at every step of every picture. Here one thread takes picture after
picture, and another one wakes only when more is waiting than that one can be expected to get done in time.

Whoever has work enlists; one worker at a time does it, in the order of enlisting; what is for later gives way to what is for now,
but for a turn in a few. The threads live as long as anybody
attends.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

_EACH = 8  # jobs waiting for each worker that is awake, before one more is woken
_TURNS = 4  # of so many jobs one at least is of those for later, where there are any
_OWED = 4  # results that are told together at most

Job = Callable[[], bool]  # does a little; whether it has to be called again


class Workers:
    """Any thread may call anything."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most or len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._later: deque[Job] = deque()
        self._turn = 0
        self._attending = 0
        self._idle: list[threading.Lock] = []  # a bell each, held while its worker sleeps
        self._threads: list[threading.Thread] = []
        self._owed: deque[Callable[[], None]] = deque()

    def attend(self) -> None:
        """Somebody is going to enlist."""
        with self._lock:
            self._attending += 1

    def leave(self) -> None:
        """When the last has left the threads end, each after what it is doing; nobody waits for them."""
        with self._lock:
            self._attending -= 1
            if self._attending:
                return
            self._threads = []
            self._waiting.clear()
            self._later.clear()
            for bell in self._idle:
                bell.release()
            self._idle = []
        self._settle()

    def give_up(self, thread: threading.Thread) -> None:
        """It may never come back from what it is doing, and ends if it does: another does what waits."""
        with self._lock:
            if thread not in self._threads:
                return
            self._threads.remove(thread)
        self._settle()
        self.rouse()

    @property
    def pressed(self) -> bool:
        """Something waits that is not for later: a job for later does no more than it has begun."""
        return bool(self._waiting)

    def enlist(self, job: Job, *, patient: bool = False, later: bool = False) -> None:
        """`patient`: nobody is woken for it; it is done along with what somebody is woken for, until `rouse`. `later`: nobody
        sees its result soon."""
        queue = self._later if later else self._waiting
        if patient:
            queue.append(job)
            return
        with self._lock:
            queue.append(job)
            new = self._roused()
        if new is not None:
            new.start()

    def rouse(self) -> None:
        """See to it that as many are awake as what waits is worth."""
        with self._lock:
            new = self._roused()
        if new is not None:
            new.start()

    def _roused(self) -> threading.Thread | None:
        """Called with the lock held. A thread to be started, where one more is needed than there are."""
        awake = len(self._threads) - len(self._idle)
        waiting = len(self._waiting) + len(self._later)
        if not waiting or (awake and waiting <= _EACH * awake):
            return None
        if self._idle:
            self._idle.pop().release()
            return None
        if len(self._threads) >= self._most:
            return None
        thread = threading.Thread(target=self._work, name=f"decode-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        return thread

    def afterwards(self, tell: Callable[[], None]) -> None:
        """For a job to call: do this when no other job waits, or when a few of these wait. Waking the loop after each picture
        of many was measured to cost a good part of what decoding it does."""
        self._owed.append(tell)

    def _settle(self) -> None:
        while self._owed:
            try:
                tell = self._owed.popleft()
            except IndexError:  # another thread was faster
                return
            tell()

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        me = threading.current_thread()
        while True:
            with self._lock:
                if me not in self._threads:
                    break
                self._turn = (self._turn + 1) % _TURNS
                later = bool(self._later) and not (self._waiting and self._turn)
                queue = self._later if later else self._waiting
                job = queue.popleft() if queue else None
                if job is None:
                    self._idle.append(bell)
            if self._owed and (job is None or len(self._owed) >= _OWED):
                self._settle()
            if job is None:
                bell.acquire()
            elif job():
                self.enlist(job, later=later)
        self._settle()


workers = Workers()
