"""How likely each legal text is, exactly: what sampling among them would come to in the limit.

Sampling renormalises token by token over what is legal, so a text's probability is a product over the tree of legal token sequences.  What
the model thinks of tokens that are not legal, and of where a text ends when it must end, plays no part.

    legal "go", "get", one letter a token      p(g) = 1      p(o) = P(o) / (P(o) + P(e))      p(t) = 1
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sojourn.core import Context, Floats
from sojourn.policy.policy import Policy


async def legal_chances(policy: Policy, context: Context, legal: Sequence[str]) -> Floats:
    """The chance of each of `legal` to be what `policy` says in `context`; shape (len(legal),), adds up to 1.  Costs a scored sequence for
    each text, and samples nothing."""
    prefix = context.prompted().tokens
    texts = [tuple(policy.renderer.as_sampled(text)) for text in legal]
    after: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for tokens in texts:
        whole = np.concatenate([prefix, np.asarray(tokens, np.int64)])
        logps = (await policy.engine.score(whole, policy.sampling.adapter))[len(prefix) :]
        for at, (token, logp) in enumerate(zip(tokens, logps.tolist(), strict=True)):
            after[tokens[:at]][token] = logp
    chances = {begun: _softmax(found, policy.sampling.temperature) for begun, found in after.items()}
    return np.asarray([np.prod([chances[tokens[:at]][token] for at, token in enumerate(tokens)]) for tokens in texts])


def _softmax(logps: dict[int, float], temperature: float) -> dict[int, float]:
    values = np.asarray(list(logps.values()), np.float64)
    if temperature == 0:
        weights = np.asarray(np.arange(len(values)) == values.argmax(), np.float64)
    else:
        weights = np.exp((values - values.max()) / temperature)
    return dict(zip(logps, (weights / weights.sum()).tolist(), strict=True))
