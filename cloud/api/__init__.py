"""The API and the page: JSON over HTTP for programs and for the console, described at /api/openapi.json.

A noun a file: each declares its routes (`route.py`) with the role that they need, and checks nothing itself that a declaration can. Every
error is {"error": one line}. Times are UTC milliseconds. Store and tables block, so handlers run in threads.
"""

from cloud.api.application import make_app
from cloud.api.backend import Backend
from cloud.api.route import MAX_LINE_BYTES

__all__ = ["MAX_LINE_BYTES", "Backend", "make_app"]
