"""A small engine as a program of its own: it answers /health and ends as it is told.

Arguments: NAME PORT [MANNER...]. A `silent` one takes requests and never answers, a `deaf` one
ignores SIGTERM, a `parent` starts a process that lives for an hour and tells its id. On POST / it
says some last words and ends with the code in the body.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

name, port, *manners = sys.argv[1:]
LAST_WORDS: Final = 40


def say(words: str) -> None:
    print(words, flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "silent" in manners:
            time.sleep(3600)
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        for number in range(LAST_WORDS):
            say(f"word {number} of {name}")
        os._exit(int(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, *_: object) -> None:
        """Nothing: the log is what tests read."""


def stop(*_: object) -> None:
    say(f"{name} is asked to stop")
    if "deaf" not in manners:
        threading.Thread(target=os._exit, args=(0,)).start()


signal.signal(signal.SIGTERM, stop)
if "parent" in manners:
    child = subprocess.Popen(["sleep", "3600"])
    say(f"child {child.pid}")
server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
say(f"{name} has loaded")
server.serve_forever()
