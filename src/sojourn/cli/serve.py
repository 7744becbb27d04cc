"""`sojourn serve RECIPE`: train from the calls of agents elsewhere.  `sojourn serve RUN|MODEL`: let a policy answer, and train nothing.

Both are an OpenAI-compatible endpoint on this machine (docs/serve.md).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console

from sojourn.cli import recipe as recipes
from sojourn.core import NotEmpty, Range, ToolSpec, check

if TYPE_CHECKING:
    from sojourn.policy import Policy
    from sojourn.rendering import ActionProtocol
    from sojourn.training import Experiment

HELP = """usage: sojourn serve TARGET [options] [--field value ...]

TARGET is a recipe, which trains from the calls of agents that claim its episodes; or a run folder or a model, which only answers.
Of a recipe every field of its config is an option, too.  The key is that of SOJOURN_API_KEY, else a fresh one, which is shown.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """An OpenAI-compatible endpoint on this machine."""

    port: Annotated[int, Range(0, 65535)] = 8000
    """0 for a free one."""
    alias: tuple[str, ...] = ()
    """Other names of roles, NAME=ROLE each, for agents whose model's name is written into them: gpt-4o=actor."""
    episode_seconds: Annotated[float, Range(0, above=True)] = 600.0
    """Of a recipe: an episode whose client is silent for so long has no result."""
    log: str = ""
    """A file that gets every request with its answer, one JSON object a line; `sojourn train sft --data` reads it."""
    name: Annotated[str, NotEmpty()] = "actor"
    """Of a run or a model: what clients call it."""
    max_tokens: Annotated[int, Range(1)] = 512
    """Of a run or a model: tokens of an answer, where the client does not say."""
    max_context: Annotated[int, Range(2)] = 4096
    """Of a run or a model: tokens of a context, answers included."""

    def __post_init__(self) -> None:
        check(self)
        self.aliases  # noqa: B018 (it checks)

    @property
    def aliases(self) -> dict[str, str]:
        pairs = [each.partition("=") for each in self.alias]
        if wrong := [name for name, mark, role in pairs if not (name and mark and role)]:
            raise ValueError(f"--alias {wrong[0]}: write NAME=ROLE, as gpt-4o=actor")
        return {name: role for name, _, role in pairs}


def serve(arguments: list[str]) -> None:
    """Parse and serve until it is done, or stopped."""
    import tyro

    target = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if not target or {"-h", "--help"} & set(arguments):
        print(HELP)
        tyro.cli(Options, prog=f"sojourn serve {target or 'TARGET'}", args=["--help"])
    needs_serve()
    trains = target.endswith(".py") or target in recipes.available()
    if not trains:
        return _answer(target, tyro.cli(Options, prog=f"sojourn serve {target}", args=arguments[1:]))
    options, rest = tyro.cli(Options, prog=f"sojourn serve {target}", args=arguments[1:], return_unknown_args=True)
    return _train(target, options, rest)


serve.takes_arguments = True  # type: ignore[attr-defined]


def needs_serve() -> None:
    """Raise `ImportError`, with the remedy, where the server library is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(f"serving needs {error.name}: pip install 'sojourn[serve]'") from error


def _train(target: str, options: Options, rest: list[str]) -> None:
    import tyro

    from sojourn import training
    from sojourn.cli.train import show
    from sojourn.serve.claims import Claims
    from sojourn.serve.gateway import Gateway
    from sojourn.serve.server import Running, listen
    from sojourn.store import RunFolder

    chosen = recipes.load(target)
    config = tyro.cli(chosen.config, prog=f"sojourn serve {target}", description=HELP, args=rest)
    gateway = Gateway(aliases=options.aliases, key=os.environ.get("SOJOURN_API_KEY", ""), log=options.log)
    claims, socket = Claims(gateway, seconds=options.episode_seconds), listen(options.port)
    app = gateway.app(*claims.routes())
    running: list[Running] = []

    async def program(session: object) -> None:
        if not running:
            running.append(Running(app, bound=socket))
        await claims(session)  # type: ignore[arg-type]

    experiment = replace(chosen.parts(config), program=program)
    _tell(socket.getsockname()[1], gateway.key, "roles: " + ", ".join(experiment.roles or {"actor": None}))
    training.train(config, experiment)
    show(RunFolder(config.run))


def _answer(target: str, options: Options) -> None:
    from sojourn.serve.free import FreeGateway
    from sojourn.serve.server import Running, listen

    socket = listen(options.port)
    policy, _ = speaker(target, name=options.name, max_tokens=options.max_tokens, max_context=options.max_context)
    gateway = FreeGateway(policy, key=os.environ.get("SOJOURN_API_KEY", ""), log=options.log)
    gateway.aliases |= options.aliases
    _tell(socket.getsockname()[1], gateway.key, f"model: {options.name}")

    async def run() -> None:
        await Running(gateway.app(), bound=socket).ended()

    asyncio.run(run())


def _tell(port: int, key: str, what: str) -> None:
    console = Console(highlight=False)
    console.print(f"export OPENAI_BASE_URL=http://127.0.0.1:{port}/v1\nexport OPENAI_API_KEY={key}", soft_wrap=True, markup=False)
    console.print(f"({what}; Ctrl-C stops)", style="dim", markup=False)


def speaker(
    target: str,
    *,
    name: str = "actor",
    protocol: Literal["auto", "json", "xml", "react", "code", "text"] = "auto",
    tools: tuple[ToolSpec, ...] = (),
    max_tokens: int = 512,
    max_context: int = 4096,
    temperature: float = 1.0,
) -> tuple[Policy, ActionProtocol]:
    """The policy of a run, a checkpoint, a directory or a model by name, and how it writes actions: as the run's recipe says, else as
    JSON in tags."""
    from sojourn.engine import SamplingParams
    from sojourn.engine.local import LocalEngine
    from sojourn.policy import Policy
    from sojourn.rendering import PROTOCOLS, ChatRenderer, JsonTags
    from sojourn.training import setup, weights

    setup.use_machine()
    found, run = weights.load(target), weights.run_config(target)
    found.model.to(dtype=setup.precision("auto"))  # type: ignore[arg-type, call-arg, unused-ignore]
    spoken: ActionProtocol = JsonTags()
    if protocol != "auto":
        spoken = PROTOCOLS[protocol](tools)
    elif (own := recipe_of(target)) is not None:
        spoken = own.protocol
    engine = LocalEngine(found.model, found.tokenizer, max_batch=16, max_context=max_context)
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    renderer = ChatRenderer(found.tokenizer, spoken, (run or {}).get("template", {}))
    return Policy(name, engine, renderer, spoken, sampling), spoken


def recipe_of(target: str) -> Experiment | None:
    """The parts of the recipe that a run was last trained with; None for what is no run, or holds none."""
    from pydantic import TypeAdapter

    from sojourn.store.code import kept_code
    from sojourn.training import weights

    run = weights.run_config(target)
    code = kept_code(weights.run_folder(target)) if run is not None else None
    if code is None or not (code / "recipe.py").exists():
        return None
    chosen = recipes.load(str(code / "recipe.py"))
    return chosen.parts(TypeAdapter(chosen.config).validate_python(run))
