"""The page's files, held in memory: our own from `cloud/page/`, Plotly from the installed package (4.8 MB; never copied into ours)."""

import asyncio
import gzip
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from aiohttp import web

from cloud.errors import CloudError

__all__ = ["Assets"]

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
A_YEAR_S = 365 * 24 * 3600
# The bundle's map library writes a <style> as it loads, unless an element of this id (a hash, another in each build) is there.
MAP_STYLE_ID = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: as it is, gzipped, and what to say of it."""

    plain: bytes
    zipped: bytes
    content_type: str
    tag: str


class Assets:
    """Our own files are read by `start`; Plotly is compressed beside it (0.2 s), and who asks early waits for that."""

    def __init__(self) -> None:
        self._ours: dict[str, Asset] = {}
        self._plotly: asyncio.Task[Asset] | None = None
        self._plotly_version = ""

    async def start(self, _app: web.Application) -> None:
        """Read the files (aiohttp signal `on_startup`). Raises CloudError when Plotly is not installed."""
        path = _plotly_path()
        self._plotly_version = metadata.version("plotly")
        plotly = await asyncio.to_thread(path.read_bytes)
        self._ours = await asyncio.to_thread(_read_page, plotly, self._plotly_version)
        self._plotly = asyncio.create_task(asyncio.to_thread(_asset, plotly, TYPES[path.suffix]))

    async def stop(self, _app: web.Application) -> None:
        """Wait for the reading thread (aiohttp signal `on_cleanup`)."""
        if self._plotly is not None:
            await asyncio.wait([self._plotly])

    async def index(self, request: web.Request) -> web.Response:
        """The page."""
        return _respond(request, self._ours["index.html"], "no-cache")

    async def static(self, request: web.Request) -> web.Response:
        """One of the page's files, by name."""
        name = request.match_info["name"]
        if name == "plotly.min.js" and self._plotly is not None:
            # Its address carries its version, so a browser need never ask again, and can keep the compiled script too.
            versioned = request.query.get("v") == self._plotly_version
            return _respond(
                request, await asyncio.shield(self._plotly), f"public, max-age={A_YEAR_S}, immutable" if versioned else "no-cache"
            )
        if name not in self._ours or name == "index.html":
            raise web.HTTPNotFound
        return _respond(request, self._ours[name], "no-cache")


def _respond(request: web.Request, asset: Asset, cache_control: str) -> web.Response:
    headers = {"ETag": asset.tag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if asset.tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.zipped, content_type=asset.content_type, charset="utf-8", headers=headers)
    return web.Response(body=asset.plain, content_type=asset.content_type, charset="utf-8", headers=headers)


def _read_page(plotly: bytes, plotly_version: str) -> dict[str, Asset]:
    assets = {path.name: _asset(path.read_bytes(), TYPES[path.suffix]) for path in PAGE.iterdir() if path.suffix in TYPES}
    index = assets["index.html"]
    plain = index.plain.replace(b"/static/plotly.min.js", f"/static/plotly.min.js?v={plotly_version}".encode())
    if found := MAP_STYLE_ID.search(plotly):
        plain = plain.replace(b"plotly-map-style", found[1])
    assets["index.html"] = _asset(plain, index.content_type)
    return assets


def _asset(plain: bytes, content_type: str) -> Asset:
    # mtime 0: the same bytes in every process, as the tag says
    return Asset(plain, gzip.compress(plain, 6, mtime=0), content_type, f'"{hashlib.sha256(plain).hexdigest()[:20]}"')


def _plotly_path() -> Path:
    spec = importlib.util.find_spec("plotly")  # finds without importing: the Python half of Plotly is not needed
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    raise CloudError("the page's charts need plotly/package_data/plotly.min.js of the package plotly; install cansight[cloud]")
