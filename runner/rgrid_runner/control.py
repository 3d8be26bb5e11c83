"""The runner's side of the wire: few verbs over HTTP, typed, repeated until the API answers.

Every verb may be repeated after a lost reply, so trouble on the network is met with backoff and patience: a script
that has run for nine hours does not die because the API restarts. ``poll`` alone is tried once a call, since each
try must name the attempts of its own moment.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import random
import sys
from collections.abc import Callable
from typing import Any, Final, cast

# httpx's command line would load click, rich and pygments: 0.1 s and 8 MB that a library does not need. And httpcore
# looks for sniffio on every request: where it is not installed, that search costs a third of the request's time.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
if importlib.util.find_spec("sniffio") is None:
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

from rgrid_shared import API_VERSION, __version__  # noqa: E402
from rgrid_shared.errors import (  # noqa: E402
    Internal,
    NotAuthorised,
    NotFound,
    Overloaded,
    Problem,
    RgridError,
    Unreachable,
    from_problem,
)
from rgrid_shared.layer_protocol import (  # noqa: E402
    LayerAnswer,
    LayerGivenUp,
    LayerPlace,
    LayerPlaceReply,
    LayerPublish,
    LayerPublished,
    LayerQuery,
    LayerRefusal,
)
from rgrid_shared.protocol import (  # noqa: E402
    AttemptReport,
    BlobUrlsReply,
    BlobUrlsRequest,
    FinishReply,
    FinishRequest,
    OutputsReply,
    OutputsRequest,
    PollReply,
    PollRequest,
    RegisterReply,
    RegisterRequest,
    ReportReply,
    StdinQuery,
    StdinReply,
)

log: Final = logging.getLogger("rgrid.runner")
BACKOFF_S: Final = 0.1
BACKOFF_CAP_S: Final = 5.0
_GRACE_S: Final = 20.0
_PASSING: Final = (Unreachable, Overloaded, Internal, NotAuthorised)
"""Worth waiting for. A revoked token too: it may be given back, and until then the lease freezes what runs."""


def backoff_s(nth: int) -> float:
    """Seconds before try ``nth`` + 1: exponential, with jitter so that a fleet does not come back in step."""
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(nth, 16)) * random.uniform(0.5, 1.0)  # noqa: S311


class Control:
    """The API as a runner sees it. ``registered`` is told each registration's answer (the id may change)."""

    def __init__(
        self,
        url: str,
        token: str,
        registered: Callable[[RegisterReply], None],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._registered = registered
        self._registration: RegisterRequest | None = None
        self._registering = asyncio.Lock()
        self._silent = False
        self.runner_id = ""
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={
                "Authorization": f"Bearer {token}",
                "Rgrid-Api": str(API_VERSION),
                "User-Agent": f"rgrid-runner/{__version__}",
                "Content-Type": "application/json",
            },
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60.0),
            # Certificates are loaded (20 ms, 5 MB) only where they are looked at.
            verify=url.startswith("https:"),
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def register(self, body: RegisterRequest) -> RegisterReply:
        """Make this runner known; waits for an API that is not there yet. NotAuthorised and the like are raised."""
        self._registration = body
        reply = cast("RegisterReply", await self._insist(lambda: "/v1/runners", body))
        self.runner_id = reply["runner_id"]
        self._registered(reply)
        return reply

    async def poll(self, body: PollRequest) -> PollReply:
        """One poll, tried once. Unreachable, Overloaded … are raised; an API that forgot this runner is told again."""
        try:
            reply = await self._once(self._path("poll"), body, body["wait_s"])
        except NotFound:
            await self._register_again(self.runner_id)
            raise Unreachable("the API did not know this runner") from None
        except RgridError as error:
            self._note(error)
            raise
        self._note(None)
        return cast("PollReply", reply)

    async def report(self, reports: list[AttemptReport]) -> ReportReply:
        """News of attempts; one answer for each, in order."""
        return cast("ReportReply", await self._insist(lambda: self._path("report"), {"reports": reports}))

    async def finish(self, body: FinishRequest) -> FinishReply:
        """End attempts and claim."""
        return cast("FinishReply", await self._insist(lambda: self._path("finish"), body))

    async def outputs(self, body: OutputsRequest) -> OutputsReply:
        """Places for outputs. StaleAttempt if the attempt is not live."""
        return cast("OutputsReply", await self._insist(lambda: self._path("outputs"), body))

    async def blobs(self, body: BlobUrlsRequest) -> BlobUrlsReply:
        """Fresh places of inputs. StaleAttempt if the attempt is not live."""
        return cast("BlobUrlsReply", await self._insist(lambda: self._path("blobs"), body))

    async def stdin(self, body: StdinQuery) -> StdinReply:
        """What was piped in after ``after``. StaleAttempt if the attempt is not live."""
        return cast("StdinReply", await self._insist(lambda: self._path("stdin"), body, body["wait_s"]))

    async def layer_find(self, body: LayerQuery) -> LayerAnswer:
        """The archive of a layer, or leave to build it. RgridError if the API has no such layers or will not say."""
        return cast("LayerAnswer", await self._insist(lambda: self._path("layers/find"), body))

    async def layer_place(self, body: LayerPlace) -> LayerPlaceReply:
        """Where an archive may be put. RgridError unless this runner was to build the layer."""
        return cast("LayerPlaceReply", await self._insist(lambda: self._path("layers/place"), body))

    async def layer_publish(self, body: LayerPublish) -> LayerPublished:
        """Make a stored archive known to all. RgridError if its bytes are not in the store."""
        return cast("LayerPublished", await self._insist(lambda: self._path("layers/publish"), body))

    async def layer_refuse(self, body: LayerRefusal) -> None:
        """An archive is not what it should be: it is dropped and may be replaced."""
        await self._insist(lambda: self._path("layers/refuse"), body)

    async def layer_give_up(self, body: LayerGivenUp) -> None:
        """This runner does not build the layer after all: others need not wait for it."""
        await self._insist(lambda: self._path("layers/give-up"), body)

    def _path(self, verb: str) -> str:
        return f"/v1/runners/{self.runner_id}/{verb}"

    async def _insist(self, path: Callable[[], str], body: object, wait_s: float = 0.0) -> Any:
        """Repeat until the API has an answer of its own: yes, or a no that will not change."""
        tries = 0
        while True:
            runner_id = self.runner_id
            try:
                reply = await self._once(path(), body, wait_s)
            except _PASSING as error:
                if not runner_id and isinstance(error, NotAuthorised):
                    raise
                self._note(error)
                await asyncio.sleep(max(backoff_s(tries), error.retry_after_s or 0.0))
                tries += 1
            except NotFound:
                if not runner_id or not await self._register_again(runner_id):
                    raise
            else:
                self._note(None)
                return reply

    async def _once(self, path: str, body: object, wait_s: float) -> Any:
        timeout = httpx.Timeout(_GRACE_S, connect=5.0, read=wait_s + _GRACE_S)
        content = json.dumps(body, separators=(",", ":")).encode()
        try:
            answer = await self._http.post(path, content=content, timeout=timeout)
        except httpx.TransportError as error:
            raise Unreachable(
                f"the API at {self._http.base_url} does not answer: {error or type(error).__name__}"
            ) from error
        if answer.status_code < 400:
            return answer.json() if answer.content else None
        raise _problem(answer)

    async def _register_again(self, runner_id: str) -> bool:
        """The API forgot ``runner_id``; True if it now has another. Told once however many calls found out."""
        async with self._registering:
            if self._registration is not None and self.runner_id == runner_id:
                log.warning("The API does not know this runner any more; registering again")
                await self.register({**self._registration, "runner_id": runner_id})
            return self.runner_id != runner_id

    def _note(self, error: RgridError | None) -> None:
        if error is not None and not self._silent:
            log.warning("%s; trying again until it answers", error.message)
        elif error is None and self._silent:
            log.info("The API answers again")
        self._silent = error is not None


def _problem(answer: httpx.Response) -> RgridError:
    try:
        retry_after = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        retry_after = None
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and "code" in document:
        error = from_problem(cast("Problem", document), retry_after_s=retry_after)
        if answer.status_code < 500 or isinstance(error, (Unreachable, Overloaded, Internal)):
            return error
    kind = Internal if answer.status_code >= 500 else RgridError
    return kind(f"the API answered {answer.status_code} to {answer.request.url.path}", retry_after_s=retry_after)
