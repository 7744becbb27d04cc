"""Search over real documents."""

from sojourn.environments.search.corpus import Document, SearchTasks, questions, read_corpus, read_questions, wikipedia
from sojourn.environments.search.retrieval import Bm25, Dense, Http, Retriever, hybrid, minilm
from sojourn.environments.search.search import Search, search_world, wikipedia_world

__all__ = [
    "Bm25", "Dense", "Document", "Http", "Retriever", "Search", "SearchTasks", "hybrid", "minilm", "questions", "read_corpus",
    "read_questions", "search_world", "wikipedia", "wikipedia_world",
]  # fmt: skip
