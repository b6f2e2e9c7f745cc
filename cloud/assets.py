"""The page's files, held in memory: our own from `cloud/page/`, uPlot from the package `uplot-python` (never copied into ours)."""

import asyncio
import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from cloud.errors import CloudError

__all__ = ["Assets"]

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
UPLOT = {"uplot.js": "uPlot.iife.js", "uplot.css": "uPlot.min.css"}  # by the name that the page asks for
CLASSIC = {"theme.js", "uplot.js"}  # scripts that are no modules
# Modules import one another; told of all of them at once, a browser fetches them side by side instead of level by level.
MODULES = b"<!-- modules -->"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: as it is, gzipped, and what to say of it."""

    plain: bytes
    zipped: bytes
    content_type: str
    tag: str


class Assets:
    """`start` reads and compresses all of it, 0.4 MB in all."""

    def __init__(self) -> None:
        self._files: dict[str, Asset] = {}

    async def start(self, _app: web.Application) -> None:
        """Read the files (aiohttp signal `on_startup`). Raises CloudError when uPlot is not installed."""
        self._files = await asyncio.to_thread(_read)

    async def stop(self, _app: web.Application) -> None:
        """Forget them (aiohttp signal `on_cleanup`)."""
        self._files = {}

    async def index(self, request: web.Request) -> web.Response:
        """The page."""
        return _respond(request, self._files["index.html"])

    async def static(self, request: web.Request) -> web.Response:
        """One of the page's files, by name."""
        name = request.match_info["name"]
        if name not in self._files or name == "index.html":
            raise web.HTTPNotFound
        return _respond(request, self._files[name])


def _respond(request: web.Request, asset: Asset) -> web.Response:
    # Kept by the browser and asked for again each time: after an update, no page is made of old and new files.
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if asset.tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.zipped, content_type=asset.content_type, charset="utf-8", headers=headers)
    return web.Response(body=asset.plain, content_type=asset.content_type, charset="utf-8", headers=headers)


def _read() -> dict[str, Asset]:
    folder = _uplot()
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}
    files |= {name: folder / theirs for name, theirs in UPLOT.items()}
    assets = {name: _asset(path.read_bytes(), TYPES[path.suffix]) for name, path in files.items()}
    modules = sorted(name for name in assets if name.endswith(".js") and name not in CLASSIC)
    links = "\n".join(f'<link rel="modulepreload" href="/static/{name}">' for name in modules)
    index = assets["index.html"]
    assets["index.html"] = _asset(index.plain.replace(MODULES, links.encode()), index.content_type)
    return assets


def _asset(plain: bytes, content_type: str) -> Asset:
    # mtime 0: the same bytes in every process, as the tag says
    return Asset(plain, gzip.compress(plain, 6, mtime=0), content_type, f'"{hashlib.sha256(plain).hexdigest()[:20]}"')


def _uplot() -> Path:
    spec = importlib.util.find_spec("uplot")  # finds without importing: the Python half, which needs IPython, is not needed
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "static"
        if all((folder / theirs).is_file() for theirs in UPLOT.values()):
            return folder
    raise CloudError(f"the page's charts need uplot/static/{UPLOT['uplot.js']} of the package uplot-python; install cansight[cloud]")
