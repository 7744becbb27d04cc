"""A process that compares mathematical answers with math-verify; `math_answer` starts it as a script and talks to it over its pipes.

The one idea: an answer is judged by the processor's time, not by the clock.  Sympy may compute for ever, or in C where no timer reaches; the
kernel ends the process (SIGXCPU) when one answer has used up its seconds of the processor, however busy the machine is.

In: a line of JSON, `[seconds, gold, said]`.  Out: a line, `true` or `false`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

MEMORY = 2 << 30


def main() -> None:
    from math_verify import parse, verify

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        seconds, gold, said = json.loads(line)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, hard))
        try:
            # Its own timers go by the clock, and fail in C: they are off.
            same = verify(parse(f"${gold}$", parsing_timeout=None), parse(said, parsing_timeout=None), timeout_seconds=None)
        except (Exception, RecursionError, MemoryError):  # foreign code may raise anything on a malformed answer
            same = False
        print(json.dumps(bool(same)), file=replies, flush=True)


if __name__ == "__main__":
    main()
