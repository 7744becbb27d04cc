"""A Python interpreter within a box: runs one piece of code after the other in one namespace.

The one idea: the code is interrupted by a timer in its own process, so that its variables live on; what cannot be interrupted is for
the host to kill.
"""

from __future__ import annotations

import ast
import io
import linecache
import sys
import traceback

from sojourn.tools.sandbox.inside.channel import Channel, Output

try:
    import resource
    import signal
except ImportError:  # WebAssembly has no timers: there, the host's clock is all there is
    resource = signal = None  # type: ignore[assignment]


class TimeUp(BaseException):
    """The time limit.  Not an `Exception`, so that the code's own handlers let it pass."""


class Interpreter:
    """One namespace, and the limits that each piece of code has in it."""

    def __init__(self, channel: Channel, *, timeout_s: float, output_chars: int) -> None:
        self.channel = channel
        self.timeout_s = timeout_s
        self.keep = output_chars // 2
        self.namespace: dict[str, object] = {"__name__": "__main__"}
        self.cells = 0
        self.armed = False

    def run(self, code: str) -> None:
        """Run `code` and answer: fault is None if it ended well, "exception" if it raised, "timeout" if it was stopped."""
        output = Output(self.channel, self.keep)
        output.end(fault=self._timed(code, output))

    def _timed(self, code: str, output: Output) -> str | None:
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), output, output
        self._limit_cpu()
        try:
            self._arm(self.timeout_s)
            fault = self._execute(code)
            self.armed = False
            self._arm(0)
        except TimeUp:
            self.armed = False
            fault = "timeout"
        except BaseException:  # an error while an error was shown: no memory, a __repr__ that raises
            self.armed = False
            fault = "exception"
        return fault

    def _arm(self, seconds: float) -> None:
        self.armed = seconds > 0
        if signal:
            if self.armed:
                signal.signal(signal.SIGALRM, self._time_up)
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _time_up(self, *_: object) -> None:
        if self.armed:
            raise TimeUp

    def _limit_cpu(self) -> None:
        """The kernel ends what no signal handler can stop, even if the host is gone."""
        if resource:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            seconds = int(usage.ru_utime + usage.ru_stime + self.timeout_s) + 3
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))

    def _execute(self, code: str) -> str | None:
        self.cells += 1
        name = f"<cell {self.cells}>"
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
            _show(error, name)
        except BaseException as error:
            _show(error, name)
        else:
            return None
        return "exception"


def _show(error: BaseException, name: str) -> None:
    """The traceback, from the code's own first frame on."""
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename != name:
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame)
