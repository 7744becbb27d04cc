"""The inside of the Python interpreter: reads code, runs it, tells what it printed.  Standard library only; starts by its source.

The one idea: the host hears lines of JSON on a pipe that the code's own output cannot reach by accident, and never more than it
asked for.  Every line carries the number of the request it belongs to.

    host:   {"id": 7, "code": "print(6 * 7)"}
    worker: {"id": 7, "out": "42\\n"}                                     (the first characters, as they come)
            {"id": 7, "tail": "", "left_out": 0, "fault": null}          (the last ones, and how it ended)
"""

from __future__ import annotations

import ast
import io
import json
import linecache
import os
import resource
import signal
import sys
import traceback

FILE_BYTES = 16 << 20
OPEN_FILES = 64


class TimeUp(BaseException):
    """The time limit.  Not an `Exception`, so that the code's own handlers let it pass."""


class Output(io.TextIOBase):
    """What code writes to: sends the first `keep` characters on, remembers the last `keep`, counts the rest."""

    def __init__(self, interpreter: Interpreter, keep: int) -> None:
        self.interpreter = interpreter
        self.keep = keep
        self.room = keep
        self.tail = ""
        self.tail_length = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        head = min(self.room, len(text))
        if head:
            self.room -= head
            self.interpreter.send(out=text[:head])
        if len(text) > head:
            self.tail_length += len(text) - head
            self.tail += text[max(head, len(text) - self.keep) :]
            if len(self.tail) > 4 * self.keep:
                self.tail = self.tail[-self.keep :]
        return len(text)

    def close(self) -> None:
        """Code may close what is not its own; go on."""


class Interpreter:
    """Runs one piece of code after the other in one namespace."""

    def __init__(self, requests: io.BufferedReader, answers: int, *, timeout_s: float, output_chars: int) -> None:
        self.requests = requests
        self.answers = answers
        self.timeout_s = timeout_s
        self.keep = output_chars // 2
        self.namespace: dict[str, object] = {"__name__": "__main__"}
        self.request = 0
        self.armed = False
        self.send(ready=True)

    def send(self, **line: object) -> None:
        """One line; the newline before it closes one that the time limit cut short."""
        data = b"\n" + json.dumps({"id": self.request, **line}).encode() + b"\n"
        while data:
            data = data[os.write(self.answers, data) :]

    def serve(self) -> None:
        """Until the host hangs up."""
        for line in self.requests:
            request = json.loads(line)
            self.request = request["id"]
            output = Output(self, self.keep)
            fault = self.run(request["code"], output)
            tail = output.tail[-self.keep :]
            self.send(tail=tail, left_out=output.tail_length - len(tail), fault=fault)

    def run(self, code: str, output: Output) -> str | None:
        """Run `code`.  None if it ended well, "exception" if it raised, "timeout" if it was stopped."""
        sys.stdin, sys.stdout, sys.stderr = open(os.devnull), output, output  # noqa: SIM115
        signal.signal(signal.SIGALRM, self.time_up)
        self.limit_cpu()
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, self.timeout_s)
            fault = self.execute(code)
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeUp:
            self.armed = False
            fault = "timeout"
        except BaseException:  # an error while an error was shown: no memory, a __repr__ that raises
            self.armed = False
            fault = "exception"
        return fault

    def time_up(self, *_: object) -> None:
        if self.armed:
            raise TimeUp

    def limit_cpu(self) -> None:
        """The kernel ends what no signal handler can stop, even if the host is gone."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(usage.ru_utime + usage.ru_stime + self.timeout_s) + 3
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))

    def execute(self, code: str) -> str | None:
        name = f"<cell {self.request}>"
        try:
            linecache.cache[name] = (len(code), None, code.splitlines(True), name)
            body = ast.parse(code, name)
            last = [body.body.pop()] if body.body and isinstance(body.body[-1], ast.Expr) else []
            exec(compile(body, name, "exec"), self.namespace)
            exec(compile(ast.Interactive(last), name, "single"), self.namespace)  # shows the value, as the console does
        except TimeUp:
            raise
        except SystemExit as error:
            if not error.code:
                return None
            show(error, name)
        except BaseException as error:
            show(error, name)
        else:
            return None
        return "exception"


def show(error: BaseException, name: str) -> None:
    """The traceback, from the code's own first frame on."""
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename != name:
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame)


def limit(memory_mb: int) -> None:
    """Limits that cannot be raised again.  No new processes or threads: so the memory limit holds for all there is."""
    hard = {
        resource.RLIMIT_AS: memory_mb << 20,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, value in hard.items():
        resource.setrlimit(kind, (value, value))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # when the host runs out of memory, this process goes first
            file.write("1000")
    except OSError:
        pass


def main() -> None:
    settings = json.loads(sys.argv.pop())
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    limit(settings["memory_mb"])
    interpreter = Interpreter(requests, answers, timeout_s=settings["timeout_s"], output_chars=settings["output_chars"])
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what code reads and writes below Python's own streams goes nowhere
        os.dup2(null, stream)
    interpreter.serve()


if __name__ == "__main__":
    main()
