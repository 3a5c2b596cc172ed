"""The program that runs two engines in one container: of a chat and an embedding model on one GPU.

It is handed to the container's own Python as text (`python3 -c`), so it needs nothing but Python's
library. After the program come an address, two limits in seconds, and two command lines:

    http://127.0.0.1:PORT/health START_LIMIT STOP_LIMIT CHAT... ::: EMBEDDING...

An engine measures the GPU's free memory while it loads. So the second one starts when the first one
answers, and when either ends, the other is ended too: the container starts again with both, one
after the other.
"""

import http.client
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

SEPARATOR: Final = ":::"
NAMES: Final = ("chat", "embedding")
_POLL_S: Final = 0.5
_ANSWER_S: Final = 5.0
_LAST_LINES: Final = 12
_LAST_BYTES: Final = 1500
"""Of what a container has said last, the kubelet keeps 2048 bytes for its status."""
_LONGEST_LINE: Final = 65536


class Event(NamedTuple):
    """Why both engines are to be ended."""

    name: str
    """Of the engine that is the cause; empty: somebody has asked for it."""
    why: str
    """What it has done; empty: it has ended."""


Events: TypeAlias = "queue.SimpleQueue[Event]"


class Engine:
    """A process whose lines come onto our log; an event tells that it has ended."""

    def __init__(self, name: str, command: Sequence[str], events: Events) -> None:
        """Start it.

        Raises:
            OSError: there is no such program.
        """
        self.name = name
        self.last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        # A session of its own: whatever it starts can be ended with it.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, args=(events,), daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def code(self) -> int:
        """How it has ended, as a shell tells it: a signal that has ended it is 128 and more."""
        code = self._process.returncode or 0
        return 128 - code if code < 0 else code

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.is_running:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, to all that it has started as well."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def finish_reading(self) -> None:
        """Wait until its last lines are on the log."""
        self._reader.join(timeout=2)

    def _read(self) -> None:
        stream = self._process.stdout
        while stream is not None and (line := stream.readline(_LONGEST_LINE)):
            self.last_lines.append(line)
            say(self.name, line)

    def _wait(self, events: Events) -> None:
        self._process.wait()
        self.kill()  # what is left of it would keep the GPU's memory
        events.put(Event(self.name, ""))


class Pair:
    """Both engines, from the first start to the last end."""

    def __init__(
        self, commands: Sequence[Sequence[str]], url: str, start_s: float, stop_s: float
    ) -> None:
        """Take the command lines, where chat tells its health, and how long each may take."""
        self._commands = commands
        self._url = url
        self._start_s = start_s
        self._stop_s = stop_s
        self._events: Events = queue.SimpleQueue()
        self._engines: list[Engine] = []

    def run(self) -> int:
        """Run them until one ends or a signal comes; returns the code to end with."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._events.put(Event("", "")))
        event = self._start() or self._await_chat() or self._start() or self._events.get()
        self._end_all()
        return self._tell(event)

    def _start(self) -> Event | None:
        """Start the next one; an event when that cannot be done."""
        place = len(self._engines)
        name, command = NAMES[place], self._commands[place]
        try:
            self._engines.append(Engine(name, command, self._events))
        except OSError as error:
            return Event(name, f"{command[0]} cannot be started: {error.strerror}")
        return None

    def _await_chat(self) -> Event | None:
        """Wait until it answers; an event when something else has happened before."""
        limit = time.monotonic() + self._start_s
        while time.monotonic() < limit:
            try:
                return self._events.get(timeout=_POLL_S)
            except queue.Empty:
                if answers(self._url):
                    return None
        return Event(NAMES[0], f"{self._url} has not answered within {self._start_s:g} s")

    def _end_all(self) -> None:
        """SIGTERM to those that run, SIGKILL to those that still do when their time is over."""
        for engine in self._engines:
            engine.ask_to_stop()
        limit = time.monotonic() + self._stop_s
        while running := [engine for engine in self._engines if engine.is_running]:
            try:
                self._events.get(timeout=max(0.0, limit - time.monotonic()))
            except queue.Empty:
                for engine in running:
                    engine.kill()
                limit = time.monotonic() + 1
        for engine in self._engines:
            engine.finish_reading()

    def _tell(self, event: Event) -> int:
        """The code to end with. What the culprit has said last comes last: that is what is seen.

        Nobody has asked an engine to end that ends by itself: that is never a success.
        """
        if not event.name:
            return next((engine.code for engine in self._engines if engine.code), 0)
        culprit = next((engine for engine in self._engines if engine.name == event.name), None)
        code = (culprit.code if culprit is not None else 0) or 1
        why = event.why or f"it has ended with code {code}"
        said = _last_of(culprit.last_lines) if culprit is not None else []
        told = f"{why}; the container starts again with both engines".encode()
        for line in (told, *said) if not event.why else (*said, told):
            say(event.name, line)
        return code


def say(name: str, line: bytes) -> None:
    """Put a line on the log, with the name of whose it is."""
    sys.stdout.buffer.write(name.encode() + b": " + line.rstrip(b"\r\n") + b"\n")
    sys.stdout.buffer.flush()


def answers(url: str) -> bool:
    """Whether the address answers with 200. A proxy that the environment names is not asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _last_of(lines: Sequence[bytes]) -> list[bytes]:
    kept = list(lines)
    while len(kept) > 1 and sum(map(len, kept)) > _LAST_BYTES:
        del kept[0]
    return [line[-_LAST_BYTES:] for line in kept]


def main(arguments: Sequence[str]) -> int:
    """Run the two command lines; the arguments are those of the module's text."""
    url, start_s, stop_s, *words = arguments
    cut = words.index(SEPARATOR)
    pair = Pair((words[:cut], words[cut + 1 :]), url, float(start_s), float(stop_s))
    return pair.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
