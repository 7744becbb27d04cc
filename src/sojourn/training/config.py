"""What a training run is: numbers in `TrainConfig`, parts in `Experiment`.

A recipe is a frozen subclass of `TrainConfig` and a function that makes the `Experiment` from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

from sojourn.agents import react
from sojourn.core import Environment, MultiAgentEnvironment, NotEmpty, Range, TaskSource, check
from sojourn.credit import Credit, Filter, Shaping, grpo
from sojourn.curriculum import Curriculum
from sojourn.engine import SamplingParams
from sojourn.learner.optimizer import OptimizerConfig
from sojourn.objectives import EntropyTarget, KlTarget, Objective, PolicyGradient, Reference, ValueLoss
from sojourn.policy import Limits, Program
from sojourn.rendering.protocols import ActionProtocol

if TYPE_CHECKING:
    from sojourn.training.evaluations import Evaluation
    from sojourn.training.roles import Role
    from sojourn.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The numbers of a run.  Every field can be set on the command line.  Fields outside their range are refused when it is made, and so
    are a recipe's own; a subclass with a `__post_init__` calls this one."""

    run: Annotated[str, NotEmpty()] = "runs/default"
    """Run folder.  An existing one is resumed."""
    model: Annotated[str, NotEmpty()] = "smollm2-135m"
    """A known name, a local directory, a model of the Hugging Face hub, or a run folder, whose last policy it is; RUN:ROLE for another
    role than the one it leads with."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the computation; auto is bfloat16 where the CPU multiplies it in hardware.  Masters are float32."""
    lora_rank: Annotated[int, Range(0)] = 0
    """Train low-rank adapters of this rank instead of all weights; 0 trains all.  Raise it for more capacity."""
    lora_alpha: Annotated[int, Range(0)] = 0
    """Adapters are scaled by this over their rank; 0 is twice the rank.  Raise it for larger steps at the same learning rate."""
    lora_targets: tuple[str, ...] = ()
    """The layers that get adapters, by their last name (`q_proj v_proj`); none for all linear layers of the body."""
    lora_dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Share of an adapter's inputs that are dropped in each update; for algorithms that imitate.  Raise it against overfitting."""
    template: Mapping[str, bool | int | str] = field(default_factory=dict)
    """Arguments of the chat template: `--template enable_thinking False`."""
    seed: Annotated[int, Range(0)] = 0
    """Of tasks and sampling."""
    steps: Annotated[int, Range(0)] = 20
    """Rollouts, and optimizer steps where `epochs` and `minibatches` are 1."""
    sampling_rounds: Annotated[int, Range(1)] = 1
    """Times, at most, that a step samples, to replace groups that the filters drop; above 1 it is DAPO's dynamic sampling."""
    value_rollouts: Annotated[int, Range(1)] = 9
    """Continuations that estimate the value of each state, for credit without a critic that reads values (VinePPO)."""
    epochs: Annotated[int, Range(1)] = 1
    """Times that each rollout is learned from.  More than 1 is off-policy: the trust region begins to act."""
    minibatches: Annotated[int, Range(1)] = 1
    """Parts that a rollout is cut into, whole groups each, with an optimizer step for each."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """The first so many steps imitate the environment's oracle; 0 learns from reward alone."""
    max_minutes: Annotated[float, Range(0)] = 0.0
    """Stop training, and evaluate, after so many minutes since the start; 0 for no limit."""
    groups: Annotated[int, Range(1)] = 8
    """Groups of episodes a step, each on a task of its own.  Raise it for a less noisy gradient."""
    group_size: Annotated[int, Range(1)] = 8
    """Episodes of a group.  Raise it so that rare successes are seen."""
    max_turns: Annotated[int, Range(1)] = 8
    """Steps of the world in an episode."""
    max_acts: Annotated[int, Range(0)] = 0
    """Actions that the policies may sample in an episode, in all contexts of a program together; 0 for no limit."""
    max_sampled: Annotated[int, Range(0)] = 0
    """Tokens that the policies may sample in an episode, in all contexts together; 0 for no limit."""
    max_tokens: Annotated[int, Range(1)] = 64
    """Tokens of one action."""
    max_context: Annotated[int, Range(2)] = 1024
    """Tokens of a context, actions included."""
    temperature: Annotated[float, Range(0)] = 1.0
    """Of sampling in training and sampled evaluation; training needs more than 0, which is greedy."""
    concurrency: Annotated[int, Range(1)] = 64
    """Episodes in flight."""
    observation_share: Annotated[float, Range(0, 1, above=True)] = 0.25
    """Share of the context that one step's observation may take; a longer one loses its middle, with a mark.  Raise it for worlds whose
    results must be read whole."""
    step_seconds: Annotated[float, Range(0, above=True)] = 120.0
    """Deadline of one reset or step of the world; past it the infrastructure is at fault, not the policy."""
    sample_seconds: Annotated[float, Range(0, above=True)] = 1800.0
    """Deadline of one action's sampling, in seconds of computing that it was part of (waiting for a place in the batch does not count); past
    it the infrastructure is at fault.  Raise it for large models on slow machines."""
    retries: Annotated[int, Range(0)] = 1
    """Times that an episode which the infrastructure broke is played again.  Raise it where browsers and servers fail often."""
    max_errors: Annotated[int, Range(0)] = 0
    """Episodes that may fail through errors of your own code (reward, environment, tool, program) before the run stops."""
    algorithm: str = ""
    """A published algorithm in place of the recipe's credit and objective: a name that `sojourn explain` lists."""
    teacher: str = ""
    """The reference, where it is not the first policy, and the teacher of distillation: a model as in `model`.  Its
    tokenizer must be the policy's."""
    learn_from: str = ""
    """What is learned from in place of sampling: a run folder, whose training episodes they are, or a data set (docs/data.md)."""
    replay: Annotated[int, Range(0)] = 0
    """Groups of earlier steps that are remembered, to stand in for those of a step that carry no signal; 0 for none.  Raise it where
    successes are rare."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights move."""
    token_budget: Annotated[int, Range(1)] = 4096
    """Unique tokens in a micro-batch; raise it while memory lasts."""
    eval_tasks: Annotated[int, Range(0)] = 64
    """Held-out tasks a level, before and after training, but none twice: a world that has fewer plays those.  0 for no evaluation."""
    eval_greedy: bool = False
    """Evaluate greedily too."""
    eval_before: bool = True
    """Evaluate before the first step, too; switch it off where that is known, as for runs that begin with the same model."""
    eval_before_of: str = ""
    """A run folder whose evaluation before the first step is taken over: of the same model, tasks, sampling, seed and code, which is checked."""
    eval_every: Annotated[int, Range(0)] = 0
    """Evaluate during training every so many steps; 0 never."""
    best_by: str = ""
    """Keep the best checkpoint, as `checkpoints/best`, by the success of this evaluation: sampled, greedy, or one by name; NAME/NUMBER for
    another of its numbers (`tries/pass@4`); none keeps none."""
    patience: Annotated[int, Range(0)] = 0
    """Stop when so many evaluations by `best_by` in a row were no better than the best before them; 0 never stops early."""
    checkpoint_every: Annotated[int, Range(0)] = 5
    """Steps between checkpoints; a killed run loses at most so many.  0 saves at the end alone, and on Ctrl-C."""
    keep_checkpoints: Annotated[int, Range(1)] = 1
    """The last so many checkpoints stay."""
    keep_episodes_every: Annotated[int, Range(0)] = 1
    """Write the training episodes of every n-th step; 0 none."""
    track: str = ""
    """Trackers that get the numbers, too: wandb, trackio, mlflow, several with commas.  TensorBoard is written wherever it is installed."""
    profile: bool = False
    """Record where the time of each step goes: in the report, and as a trace for ui.perfetto.dev in the run folder."""

    def __post_init__(self) -> None:
        check(self)
        if self.best_by and not self.eval_every:
            raise ValueError(f"best_by is '{self.best_by}', but nothing is evaluated during training: set eval_every, too")
        if self.patience and not self.best_by:
            raise ValueError(f"patience is {self.patience}, but nothing says what is better: set best_by, too")
        if self.lora_dropout and not self.lora_rank:
            raise ValueError(f"lora_dropout is {self.lora_dropout}, but there are no adapters: set lora_rank, too")

    def sampling(self) -> SamplingParams:
        return SamplingParams(max_tokens=self.max_tokens, temperature=self.temperature)

    def limits(self) -> Limits:
        return Limits(
            max_turns=self.max_turns,
            max_acts=self.max_acts,
            max_sampled=self.max_sampled,
            step_seconds=self.step_seconds,
            observation_share=self.observation_share,
        )


class Told(NamedTuple):
    """What a callback hears.  kind: what has just ended.  values: the metrics of the step, or the rows of the evaluation."""

    kind: Literal["step", "evaluation"]
    step: int
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    trainer: Trainer


class Kept(Protocol):
    """What outlives an episode.  Both ways through JSON."""

    def state(self) -> Any: ...
    def load_state(self, state: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The parts of a run: a world, its tasks, who acts in it and how credit becomes a loss."""

    environment: Callable[[], Environment | MultiAgentEnvironment]
    """Makes a fresh world for one episode."""
    tasks: TaskSource
    protocol: ActionProtocol
    """How actions are written."""
    curriculum: Curriculum
    """Which tasks come next."""
    program: Program = react
    credit: Credit = field(default_factory=grpo)
    objective: Objective = field(default_factory=PolicyGradient)
    filters: tuple[Filter, ...] = ()
    """Which episodes are trained."""
    critic: ValueLoss | None = None
    """How a critic learns, for credit that reads values; None for no critic."""
    reference: Reference = field(default_factory=Reference)
    """What KL terms, and the divergence in the report, are measured against."""
    kl_target: KlTarget | None = None
    """What the coefficient of every KL term follows; None keeps it."""
    entropy_target: EntropyTarget | None = None
    """What the entropy bonus follows; None keeps it."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Sets of weights and how they learn, by name, where there is more than one (`training.roles`)."""
    seats: Mapping[str, str] = field(default_factory=dict)
    """Which role speaks for an agent, by the agent's name.  A role learns from what its own agents did and earned."""
    kept: Mapping[str, Kept] = field(default_factory=dict)
    """What outlives an episode, by name: a skill store, memories, a pool of tasks.  Programs reach it as `session.kept`; it is in the
    checkpoint."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """What is measured beside held-out success, by name, whenever that is (`training.evaluations`)."""
    shaping: Mapping[str, Shaping] = field(default_factory=dict)
    """Reward terms by name that are paid on top, before filters and credit: penalties of length, of tool calls."""
    callback: Callable[[Told], object] | None = None
    """Hears of every step and every evaluation; one that returns True for a step ends the training after it."""

    def __post_init__(self) -> None:
        for name in ("tasks", "protocol", "curriculum", "credit", "objective", "critic", "reference"):
            value = getattr(self, name)
            if isinstance(value, type):
                raise ValueError(f"Experiment({name}={value.__name__}): that is a class; make one, {value.__name__}(...)")
        if not (hasattr(self.tasks, "levels") and hasattr(self.tasks, "task")):
            kind = type(self.tasks).__name__
            raise ValueError(
                f"Experiment(tasks={kind}): that is no source of tasks; give `world.tasks`, or environments.TaskList(train, test)"
            )
