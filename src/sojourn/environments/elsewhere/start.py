"""What a worker's Python runs first: it makes this package importable, and nothing else of the environment that Sojourn is installed in."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

if __name__ == "__main__":
    package = Path(__file__).resolve().parents[2]
    spec = spec_from_file_location("sojourn", package / "__init__.py", submodule_search_locations=[str(package)])
    assert spec is not None and spec.loader is not None
    sys.modules["sojourn"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)

    from sojourn.environments.elsewhere.worker import main

    main(int(sys.argv[1]))
