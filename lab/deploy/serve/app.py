"""HTTP server for a registered model: MLflow's protocol with limits, one request at a time, a short queue.

MLflow's own server (`mlflow models serve`) reads and parses any input before the model sees it. This server checks
size, type and structure of a request first, answers overload and timeouts with status 503, and keeps paths and stack
traces out of error messages.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lab.tracking.models.serving import VERSION, Refused, Served

TABLES = ("inputs", "instances", "dataframe_records", "dataframe_split")
"""A request has exactly one of these keys."""
MOST_OBJECTS = 1_000_000
"""Maximum number of lists, objects and strings in a request: each takes 60 bytes of memory, but as few as two bytes in
the request."""
LONGEST_REASON = 500
PATH = re.compile(r"(?:/[\w.@+~-]+){2,}/?|[A-Za-z]:\\[^\s'\"]+")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for a client."""

    body_mb: int = 64
    """MiB of a request. Three scans at 1 mm are some 10 to 40 as base64 of .nii.gz, and several hundred as lists."""
    patients: int = 8
    """Patients, or rows of a classifier's table, in a request."""
    seconds: int = 600
    """Seconds until an answer, including the wait in the queue."""
    sending_seconds: int = 60
    """Seconds for a client to send its request."""
    waiting: int = 4
    """Requests in the queue, besides the one in progress; more are refused."""


def application(model: Served, limits: Limits) -> Starlette:
    """The server's routes: MLflow's /invocations, and /ping, /health and /version."""

    async def ping(_: Request) -> Response:
        return Response("\n", media_type="application/json")

    async def version(_: Request) -> Response:
        return Response(VERSION, media_type="text/plain")

    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/health", ping),
            Route("/version", version),
            Route("/invocations", _Queue(model, limits).answer, methods=["POST"]),
        ]
    )


class _Queue:
    """The queue before a model, which answers one request at a time."""

    def __init__(self, model: Served, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.worker = ThreadPoolExecutor(1)
        self.inside = 0
        """Requests queued or in progress, including those whose client has already received a timeout."""

    async def answer(self, request: Request) -> Response:
        if self.inside > self.limits.waiting:
            return _answer(Refused(503, "the server is busy; try again later"), {"Retry-After": "30"})
        self.inside += 1
        work: asyncio.Future[str] | None = None
        try:
            body = await self._read(request)
            work = asyncio.get_running_loop().run_in_executor(self.worker, self._work, body)
            work.add_done_callback(self._leave)  # a thread cannot be stopped: a timed-out request counts until it ends
            done, _ = await asyncio.wait({work}, timeout=self.limits.seconds)
            if not done:
                work.cancel()  # effective only before it has begun
                raise Refused(503, f"no answer within {self.limits.seconds} s; ask for less, or try again later")
            return Response(work.result(), media_type="application/json")
        except Refused as refused:
            return _answer(refused)
        finally:
            if work is None:
                self.inside -= 1

    def _leave(self, work: asyncio.Future[str]) -> None:
        self.inside -= 1
        if not work.cancelled():
            work.exception()  # marks the error as retrieved, whether or not a client still waits

    async def _read(self, request: Request) -> bytes:
        """Body of a request. Raises Refused where it has another type, is too large or too slow."""
        kind, _, parameters = request.headers.get("content-type", "").partition(";")
        if kind.strip().lower() != "application/json" or parameters.strip().lower() not in ("", "charset=utf-8"):
            raise Refused(415, "send application/json in UTF-8")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "send the request itself without content-encoding; scans in it may be compressed")
        most, announced = self.limits.body_mb << 20, request.headers.get("content-length", "0")
        large = Refused(
            413,
            f'the request is larger than {self.limits.body_mb} MiB: send scans as {{"nifti": base64 of a .nii.gz}}, or '
            "fewer patients",
        )
        if announced.isdecimal() and int(announced) > most:
            raise large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.sending_seconds):
                async for piece in request.stream():
                    body += piece
                    if len(body) > most:
                        raise large
        except (TimeoutError, ClientDisconnect):
            raise Refused(408, f"the request did not come within {self.limits.sending_seconds} s") from None
        return bytes(body)

    def _work(self, body: bytes) -> str:
        """Answer to a body, in the worker's thread. Raises Refused."""
        try:
            check_request(body, self.limits, self.model.columns)
            return self.model.answer(body)
        except Exception as error:
            raise refusal(error) from error


def check_request(body: bytes, limits: Limits, columns: frozenset[str]) -> None:
    """Raises Refused for a body that is not a valid request of few patients, before arrays are built from it."""
    if sum(body.count(sign) for sign in (b"[", b"{")) + body.count(b'"') // 2 > MOST_OBJECTS:
        raise Refused(400, f"the request holds more than {MOST_OBJECTS} lists, objects and texts")
    try:
        request = json.loads(body)
    except RecursionError:
        raise Refused(400, "the request is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, a number of thousands of digits
        raise Refused(400, f"the request is no valid JSON ({client_text(str(error))})") from None
    given = [key for key in TABLES if key in request] if isinstance(request, dict) else []
    if len(given) != 1:
        raise Refused(400, f"the request must be an object with one of {', '.join(TABLES)}")
    rows = request[given[0]]
    if given[0] == "dataframe_split":
        rows = rows.get("data") if isinstance(rows, dict) else None
    if not isinstance(rows, list):
        raise Refused(400, f"{given[0]} must hold a list: Expected list of patients, found {type(rows).__name__}")
    if len(rows) > limits.patients:
        raise Refused(400, f"the request has {len(rows)} patients; at most {limits.patients} are answered at once")
    if columns:
        names = request["dataframe_split"].get("columns") if given[0] == "dataframe_split" else None
        named = names if isinstance(names, list) else [name for row in rows if isinstance(row, dict) for name in row]
        unknown = [str(name) for name in named if name not in columns]
        if unknown:
            raise Refused(400, f"{client_text(unknown[0])!r} is none of the {len(columns)} features of this classifier")


def refusal(error: Exception) -> Refused:
    """The client's message for an error: the reason for a client's fault, otherwise that the server failed."""
    if isinstance(error, Refused):
        return Refused(error.status, client_text(error.reason))
    if isinstance(error, MemoryError):
        return Refused(503, "the server has too little memory for this request")
    if isinstance(error, ValueError):
        return Refused(400, client_text(str(error)))
    log.error("a request could not be answered", exc_info=error)
    return Refused(500, "the server failed; its log says why")


def client_text(text: str) -> str:
    """A text in one line, shortened and without paths."""
    return PATH.sub("...", " ".join(text.split()))[:LONGEST_REASON]


def _answer(refused: Refused, headers: dict[str, str] | None = None) -> Response:
    return Response(refused.serialize_as_json(), refused.status, headers, media_type="application/json")
