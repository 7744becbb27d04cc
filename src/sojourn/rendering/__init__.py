"""Messages to tokens and text to actions: the chat renderer, and the action protocols."""

from sojourn.rendering.chat import ChatRenderer
from sojourn.rendering.protocols import PROTOCOLS, ActionProtocol, CodeFence, JsonTags, PlainText, ReAct, XmlTags
from sojourn.rendering.template import ChatTemplate

__all__ = [
    "PROTOCOLS", "ActionProtocol", "ChatRenderer", "ChatTemplate", "CodeFence", "JsonTags", "PlainText", "ReAct", "XmlTags",
]  # fmt: skip
