"""A few threads that decode for everybody, as many as there are processors.

A thread for each stream was measured to cost a third more: viewers of one broadcast are sent each picture at the same instant,
and as many threads then fight for the interpreter at every step of every picture. Here one thread takes picture after
picture, and another one wakes only when more is waiting than that one can be expected to get done in time.

Whoever has work enlists; one worker at a time does it, in the order of enlisting. The threads live as long as anybody
attends.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

_EACH = 8  # jobs waiting for each worker that is awake, before one more is woken

Job = Callable[[], bool]  # does a little; whether it has to be called again


class Workers:
    """Any thread may call anything."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most or len(os.sched_getaffinity(0))
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._attending = 0
        self._idle: list[threading.Lock] = []  # a bell each, held while its worker sleeps
        self._threads: list[threading.Thread] = []

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
            for bell in self._idle:
                bell.release()
            self._idle = []

    def give_up(self, thread: threading.Thread) -> None:
        """It may never come back from what it is doing, and ends if it does: another does what waits."""
        with self._lock:
            if thread not in self._threads:
                return
            self._threads.remove(thread)
        self._rouse()

    def enlist(self, job: Job) -> None:
        with self._lock:
            self._waiting.append(job)
        self._rouse()

    def _rouse(self) -> None:
        """See to it that as many are awake as what waits is worth."""
        with self._lock:
            if not self._waiting:
                return
            awake = len(self._threads) - len(self._idle)
            if awake and len(self._waiting) <= _EACH * awake:
                return
            if self._idle:
                self._idle.pop().release()
                return
            if len(self._threads) >= self._most:
                return
            thread = threading.Thread(target=self._work, name=f"decode-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        me = threading.current_thread()
        while True:
            with self._lock:
                if me not in self._threads:
                    return
                job = self._waiting.popleft() if self._waiting else None
                if job is None:
                    self._idle.append(bell)
            if job is None:
                bell.acquire()
            elif job():
                self.enlist(job)


workers = Workers()
