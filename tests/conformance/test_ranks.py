"""I4 on real processes: 2 and 4 data-parallel ranks over gloo give the gradient of one."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed

from sojourn.conformance.batches import batch
from sojourn.objectives import Aggregation, Denominators, LossInputs, PolicyGradient

OVERS = ("tokens", "sequences", "sequence_sums", "constant", "prompts")
WHOLE = batch([[2, 1], [3], [1, 1, 2], [4], [1], [2, 2], [5], [1]], moved=0.2, stale=0.1)


def gradients(inputs: LossInputs) -> torch.Tensor:
    """Gradient at every token for each aggregation, shape (5, T of the whole)."""
    rows = []
    for over in OVERS:
        loss, _ = PolicyGradient(granularity="turn", aggregation=Aggregation(over=over))(inputs)  # type: ignore[arg-type]
        rows.append(torch.autograd.grad(loss, WHOLE.logp, retain_graph=True)[0])
    return torch.stack(rows)


def rank_main(rank: int, ranks: int, meeting: str, answer: str) -> None:
    """One rank: counts its own tokens, agrees on the global counts, and adds its gradient to the others'."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    mine = WHOLE.sequence % ranks == rank
    per_sequence = torch.bincount(WHOLE.sequence[mine], minlength=8)
    per_prompt = torch.bincount(WHOLE.prompt[mine], minlength=4)
    for counted in (per_sequence, per_prompt):
        distributed.all_reduce(counted)
    counts = Denominators(
        tokens=int(per_sequence.sum()),
        sequences=int((per_sequence > 0).sum()),
        prompts=int((per_prompt > 0).sum()),
        tokens_per_sequence=per_sequence,
        tokens_per_prompt=per_prompt,
    )
    part = WHOLE.take(mine)
    total = gradients(LossInputs(**{**{f: getattr(part, f) for f in part.__dataclass_fields__}, "counts": counts}))
    distributed.all_reduce(total)
    if rank == 0:
        torch.save(total, answer)
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_gives_one_gradient(ranks: int, tmp_path: Path) -> None:
    expected = gradients(WHOLE)
    fork = multiprocessing.get_context("fork")
    meeting, answer = str(tmp_path / "meet"), str(tmp_path / "answer.pt")
    workers = [fork.Process(target=rank_main, args=(rank, ranks, meeting, answer)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0] * ranks
    assert torch.load(answer).flatten().tolist() == pytest.approx(expected.flatten().tolist())
