"""Batches that lie on several data-parallel processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from sojourn.conformance.adapter import Adapter, gradient
from sojourn.conformance.rows import Rows
from sojourn.objectives.aggregation import Over

SECONDS = 120


def over_ranks(adapter: Adapter, rows: Rows, asked: Sequence[tuple[str, Over | None]], ranks: int) -> Tensor:
    """Gradient at `rows.logp` of each algorithm and aggregation, shape (A, B, L); every process holds an equal run of the rows."""
    # A fork is quick and needs no pickling, but an accelerator's threads do not live through it.
    start: Any = multiprocessing.get_context("forkserver" if torch.accelerator.is_available() else "fork")
    start.set_forkserver_preload(["sojourn.conformance"])
    with TemporaryDirectory() as folder:
        given = (adapter, rows, asked, ranks, folder)
        workers = [start.Process(target=_rank, args=(rank, *given), daemon=True) for rank in range(ranks)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=SECONDS)
        for worker in workers:
            worker.kill()
        said = [path.read_text() for path in sorted(Path(folder).glob("error*"))]
        assert not said, f"{ranks} ranks: {said[0]}"
        assert all(worker.exitcode == 0 for worker in workers), f"{ranks} ranks gave no answer in {SECONDS} s"
        answer: Tensor = torch.load(Path(folder, "answer.pt"))
        return answer


def _rank(rank: int, adapter: Adapter, rows: Rows, asked: Sequence[tuple[str, Over | None]], ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    each = len(rows.mask) // ranks
    mine = slice(rank * each, (rank + 1) * each)
    share = rows.take(range(len(rows.mask))[mine])
    total = torch.zeros(len(asked), *rows.mask.shape, dtype=rows.logp.dtype)
    try:
        for place, (algorithm, over) in enumerate(asked):
            total[place, mine] = gradient(adapter, algorithm, share, aggregation=over)
        distributed.all_reduce(total)
    except Exception as error:
        Path(folder, f"error{rank}").write_text(f"{type(error).__name__}: {error}")
        raise
    if rank == 0:
        torch.save(total, Path(folder, "answer.pt"))
    distributed.destroy_process_group()


def of_all_ranks(rows: Rows) -> tuple[Rows, int]:
    """The rows of all ranks, of which only our own carry gradients, and the number of our first."""
    if not distributed.is_initialized():
        return rows, 0
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, {name: value.detach() for name, value in vars(rows).items()})
    shares[distributed.get_rank()] = vars(rows)
    first = np.cumsum([0, *(len(share["mask"]) for share in shares)]).tolist()
    parts = {name: torch.cat([share[name] for share in shares]) for name in vars(rows) if name != "pairs"}
    pairs = torch.cat([share["pairs"] + start for share, start in zip(shares, first[:-1], strict=True)])
    return Rows(**parts, pairs=pairs), first[distributed.get_rank()]
