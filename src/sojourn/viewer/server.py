"""`sojourn view`: the pages over HTTP, for this machine alone.

The one idea: whoever may read the run folders may read the pages, and nobody else.  It binds to loopback, answers to the names of loopback
only (a page elsewhere that points a name of its own at 127.0.0.1 gets nothing), and writes nothing.  What models wrote is escaped, and the
browser is told to run no script but those that come with Sojourn, and to load nothing from elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sojourn.loopback import HOST, bound
from sojourn.viewer.pages import NotThere, Pages
from sojourn.viewer.render import script, style
from sojourn.viewer.shelf import Gone

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

NAMES = ["127.0.0.1", "localhost", "[::1]"]
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
MISSING = "sojourn view needs starlette and uvicorn: pip install 'sojourn[view]'"


def application(folders: Sequence[Path]) -> Starlette:
    """The pages over the runs under `folders`.  Raises `ValueError` for a folder that is not there."""
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise ImportError(MISSING) from error

    pages = Pages(folders)
    pages.found()

    def page(make: Callable[[Request], str]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            try:
                return HTMLResponse(make(request), headers=HEADERS)
            except (NotThere, Gone) as error:
                return HTMLResponse(pages.error("Not there", str(error)), 404, headers=HEADERS)
            except ValueError as error:
                return HTMLResponse(pages.error("That cannot be shown", str(error)), 400, headers=HEADERS)

        return answer

    def run_of(request: Request) -> str:
        return request.query_params.get("run", "")

    def stamp(request: Request) -> Response:
        try:
            return PlainTextResponse(pages.stamp(run_of(request)), headers=HEADERS)
        except NotThere as error:
            return PlainTextResponse(str(error), 404, headers=HEADERS)

    def tools(request: Request) -> Response:
        try:
            return JSONResponse(pages.tools(run_of(request)), headers=HEADERS)
        except NotThere as error:
            return JSONResponse({"error": str(error)}, 404, headers=HEADERS)

    def part(name: str) -> Callable[[Request], Response]:
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return lambda _: Response(str(style() if name.endswith(".css") else script(name)), media_type=kind, headers=HEADERS)

    async def nothing_there(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return HTMLResponse(pages.error("Not there", f"There is no page {request.url.path}."), code, headers=HEADERS)

    return Starlette(
        routes=[
            Route("/", page(lambda r: pages.runs(r.query_params.getlist("run"), r.query_params))),
            Route("/overview", page(lambda r: pages.overview(run_of(r)))),
            Route("/health", page(lambda r: pages.health(run_of(r)))),
            Route("/episodes", page(lambda r: pages.episodes(run_of(r), r.query_params))),
            Route("/episode", page(lambda r: pages.episode(run_of(r), r.query_params))),
            Route("/group", page(lambda r: pages.group(run_of(r), r.query_params))),
            Route("/task", page(lambda r: pages.task(run_of(r), r.query_params))),
            Route("/stamp", stamp),
            Route("/tools", tools),
            *(Route(f"/{name}", part(name)) for name in ("style.css", "page.js", "view.js")),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=NAMES)],
        exception_handlers={404: nothing_there, 405: nothing_there},
    )


def listening(port: int) -> socket.socket:
    """A socket on loopback; port 0 takes a free one.  Raises `ValueError` if the port is taken."""
    try:
        return bound(port)
    except (PermissionError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be used: {error} (choose one from 1024 to 65535 with --port)") from None
    except OSError:
        raise ValueError(
            f"port {port} on {HOST} is in use (another sojourn view? choose another with --port, or 0 for a free one)"
        ) from None


def serve(folders: Sequence[Path], port: int, ready: Callable[[str], object] = print) -> None:
    """Serve the pages until Ctrl-C; `ready` is told the address."""
    app = application(folders)
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(MISSING) from error

    with listening(port) as found:
        ready(f"http://{HOST}:{found.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)).run(
            sockets=[found]
        )
