"""What runs within a box.  Standard library only, for whatever Python the machine has: the host sends these files as text.

In a box of bubblewrap `warden` is the first process: it never runs an agent's code itself, but starts shells (`shell`) and interpreters
(`interpreter`), each in a process of its own; an interpreter can split in two (`copying`).  In any other box there is one interpreter,
`alone`.  All talk to the host by lines of JSON (`channel`).
"""

from pathlib import Path

ALONE = ("channel", "interpreter", "alone")
WARDEN = (*ALONE, "copying", "shell", "warden")

# The program of the box's Python.  The settings are the first line from the host; it makes modules of the texts in them, under their
# own names, so that they import each other, and hands over to the last one.
START = """
import json, os, sys, types
line = part = os.read(0, 1 << 20)
while part and not line.endswith(b"\\n"):
    line += (part := os.read(0, 1 << 20))
settings = json.loads(line)
for name, text in settings.pop("modules").items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
module.main(settings)
"""


def sources(alone: bool) -> dict[str, str]:
    """The text of each module, in the order in which they need each other."""
    return {f"{__name__}.{name}": Path(__file__).with_name(f"{name}.py").read_text() for name in (ALONE if alone else WARDEN)}
