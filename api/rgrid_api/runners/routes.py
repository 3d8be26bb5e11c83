"""Routes of runners. Every one but the list is opened by a runner token and speaks for one registered runner."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from rgrid_api.answers import answer
from rgrid_api.deps import CurrentRunner, CurrentUser, Parts
from rgrid_api.runners import files, registry
from rgrid_api.runners.desk import Desk
from rgrid_shared.protocol import (
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
    ReportRequest,
    StdinQuery,
    StdinReply,
)
from rgrid_shared.views import RunnersPage

router = APIRouter(prefix="/v1/runners", tags=["runners"])


def desk(conn: HTTPConnection) -> Desk:
    """The process's desk."""
    return cast("Desk", conn.app.state.desk)


async def known_runner(runner: str, conn: HTTPConnection, who: CurrentRunner) -> str:
    """The id in the path. Raises NotFound unless that runner registered with the token that is sent."""
    await desk(conn).owners.check(runner, who.token_id)
    return runner


ServedBy = Annotated[Desk, Depends(desk)]
KnownRunner = Annotated[str, Depends(known_runner)]


@router.get("", summary="All runners of the grid", response_model=RunnersPage)
async def list_runners(parts: Parts, who: CurrentUser) -> Response:
    """Those heard of in the last seven days. A runner that is silent for a lease's length is offline."""
    return answer(await registry.list_runners(parts.database, parts.settings.timing.lease_s))


@router.post("", summary="Register a runner", response_model=RegisterReply)
async def register(request: RegisterRequest, parts: Parts, who: CurrentRunner) -> Response:
    """A runner that comes back names its old id and keeps it, with whatever it still runs."""
    return answer(await registry.register(parts.database, parts.settings, who.token_id, request))


@router.post("/{runner}/poll", summary="Renew leases, claim, fetch commands", response_model=PollReply)
async def poll(runner: str, body: PollRequest, at: ServedBy, who: CurrentRunner, request: Request) -> Response:
    """Renews exactly the attempts that it lists. Waits up to `wait_s` for something to say."""
    return answer(await at.poller.poll(runner, who.token_id, body, request.is_disconnected))


@router.post("/{runner}/report", summary="Log and phases of running attempts", response_model=ReportReply)
async def report(body: ReportRequest, at: ServedBy, runner: KnownRunner) -> Response:
    """Log chunks are taken in order without a gap; `next_seq` is the first that the grid does not have."""
    return answer(await at.reporter.report(runner, body["reports"]))


@router.post("/{runner}/outputs", summary="Places for outputs of an attempt", response_model=OutputsReply)
async def outputs(body: OutputsRequest, parts: Parts, runner: KnownRunner) -> Response:
    """Presigned PUTs, in parts above 64 MiB. A stale attempt is a conflict (409)."""
    return answer(await files.output_places(parts.database, parts.store, runner, body))


@router.post("/{runner}/blobs", summary="Fresh URLs for blobs of an attempt", response_model=BlobUrlsReply)
async def blobs(body: BlobUrlsRequest, parts: Parts, runner: KnownRunner) -> Response:
    """For URLs that have expired. A stale attempt is a conflict (409)."""
    return answer(await files.blob_urls(parts.database, parts.store, runner, body))


@router.post("/{runner}/finish", summary="End attempts and claim again", response_model=FinishReply)
async def finish(body: FinishRequest, at: ServedBy, runner: KnownRunner, who: CurrentRunner) -> Response:
    """Outputs become visible with the final state. An attempt whose log is incomplete is answered with `next_seq`."""
    return answer(await at.finish(runner, who.token_id, body))


@router.post("/{runner}/stdin", summary="Chunks of an execution's stdin", response_model=StdinReply)
async def stdin(body: StdinQuery, parts: Parts, runner: KnownRunner, request: Request) -> Response:
    """Waits up to `wait_s` for a chunk after `after`. A stale attempt is a conflict (409)."""
    return answer(await files.stdin_after(parts.database, parts.hub, runner, body, request.is_disconnected))
