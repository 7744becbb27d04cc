"""The command `sojourn`.

The one idea: a command is a typed function in a module of its own, imported when it is asked for, so that `sojourn --help`
answers at once; tyro reads its options from its signature.  What the user did wrong is told in one message, without a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module

USER_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("sojourn.cli.train:train", "train a recipe, or go on with a run that was stopped"),
    "eval": ("sojourn.cli.evaluate:evaluate", "measure a run or a model on held-out tasks"),
    "reproduce": ("sojourn.cli.reproduce:reproduce", "run a recipe's arms, and say which of its claims hold"),
    "play": ("sojourn.cli.play:play", "play an environment yourself and see what the model sees"),
    "chat": ("sojourn.cli.chat:chat", "talk with a run's policy or a model, with the tools of the run's recipe"),
    "data": ("sojourn.cli.data:data", "show a data set as the model will see it, with what is trained"),
    "serve": ("sojourn.cli.serve:serve", "an OpenAI-compatible endpoint: train agents elsewhere, or let a policy answer"),
    "export": ("sojourn.cli.export:export", "write a run's policy as a directory for transformers and peft"),
    "view": ("sojourn.cli.view:view", "look at runs in the browser, while they are written"),
    "report": ("sojourn.cli.lists:report", "write the report of a run again"),
    "doctor": ("sojourn.cli.doctor:doctor", "what is installed, what is missing, and whether it works"),
    "envs": ("sojourn.cli.lists:envs", "the environments that come with Sojourn; envs install FAMILY"),
    "recipes": ("sojourn.cli.recipes:recipes", "the recipes: what they are, and what came of them"),
    "check": ("sojourn.cli.check:check", "try whether an environment is sound, can be cheated, can be learned"),
    "explain": ("sojourn.cli.lists:explain", "the algorithms; of one: its formula, parts and constants"),
    "bench": ("sojourn.cli.bench:bench", "measure speed, against peers and against what this machine can do"),
    "conformance": ("sojourn.cli.lists:conformance", "hold credit and objectives against the checks, ours or another's"),
}
"""Name: where its function is, and what it does.  A function may take the arguments raw (`takes_arguments`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a mistake of the user, 1 for a failure, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(usage())
        return 0 if given else USER_ERROR
    if given[0] == "--version":
        from sojourn import __version__

        print(__version__)
        return 0
    if given[0] not in COMMANDS:
        return _tell(f"there is no command '{given[0]}'{nearest(given[0], COMMANDS)}\n\n{usage()}", USER_ERROR)
    return _guarded(given[0], given[1:])


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(("usage: sojourn COMMAND ...   (sojourn COMMAND --help says more)", "", *lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that suggests what was meant, or nothing.

    >>> nearest("trian", ["train", "eval"])
    "; did you mean 'train'?"
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def _guarded(name: str, arguments: list[str]) -> int:
    """Run a command and tell its errors.  SOJOURN_TRACEBACK=1 shows where they come from."""
    where, what = COMMANDS[name]
    module, function = where.split(":")
    try:
        return _call(getattr(import_module(module), function), f"sojourn {name}", what, arguments)
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the last checkpoint" if name in ("train", "reproduce") else ""
        return _tell(f"stopped{goes_on}", INTERRUPTED)
    except Exception as error:
        code = _code(error)
        if code is None or os.environ.get("SOJOURN_TRACEBACK"):
            raise
        return _tell(f"error: {error}", code)


def _code(error: Exception) -> int | None:
    """The exit code of an error that its message explains; None for one that only a traceback explains."""
    from sojourn.core import InfrastructureError
    from sojourn.store import DiskFullError

    if isinstance(error, ValueError):  # ModelNotFound is one
        return USER_ERROR
    return FAILURE if isinstance(error, (ImportError, DiskFullError, InfrastructureError)) else None


def _call(function: Callable[..., int | None], program: str, what: str, arguments: list[str]) -> int:
    if getattr(function, "takes_arguments", False):
        return function(arguments) or 0
    import tyro

    return tyro.cli(function, prog=program, description=what, args=arguments) or 0


def _tell(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code
