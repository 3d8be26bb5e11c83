"""What the grid can run: the runtimes of all runners that are online."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from rgrid_api.answers import answer
from rgrid_api.db.session import Database
from rgrid_api.deps import CurrentUser, Parts
from rgrid_shared.runtime_names import language_of
from rgrid_shared.views import RuntimesPage

router = APIRouter(prefix="/v1/runtimes", tags=["runners"])


@dataclass(frozen=True, slots=True)
class Offer:
    """A runner's ``runtimes`` (name → version), their ``images`` (name → image), and the images that specs may name."""

    online: bool
    runtimes: Mapping[str, str]
    images: Mapping[str, str]
    allowed: Sequence[str]


@router.get("", summary="What scripts can be run in", response_model=RuntimesPage)
async def list_runtimes(parts: Parts, who: CurrentUser) -> Response:
    """Runtimes that runners offer, by name; of runners heard of in the last day, and how many of them are online."""
    return answer(await runtimes_known(parts.database, parts.settings.timing.lease_s))


async def runtimes_known(database: Database, lease_s: float) -> RuntimesPage:
    """``lease_s``: a runner that is silent for longer is not online."""
    async with database.read() as tx:
        rows = await tx.run("runtimes_known", lease_s=lease_s)
        return together([Offer(row.online, row.runtimes, row.images, row.allowed_images) for row in rows])


def together(offers: Sequence[Offer]) -> RuntimesPage:
    """What runners offer, as one list."""
    runners: Counter[str] = Counter()
    versions: defaultdict[str, set[str]] = defaultdict(set)
    images: defaultdict[str, set[str]] = defaultdict(set)
    for offer in offers:
        for name, version in offer.runtimes.items():
            runners[name] += offer.online
            versions[name] |= {version} - {""}
            images[name] |= {offer.images[name]} if name in offer.images else set()
    return {
        "runtimes": [
            {
                "name": name,
                "language": language_of(name) or "",
                "versions": sorted(versions[name], key=_by_number, reverse=True),
                "images": sorted(images[name]),
                "runners": count,
            }
            for name, count in sorted(runners.items(), key=lambda each: _by_number(each[0]))
        ],
        "allowed_images": sorted({pattern for offer in offers for pattern in offer.allowed}),
    }


def _by_number(text: str) -> list[tuple[str, int]]:
    """For sorting: ``python3.9`` before ``python3.10``."""
    return [(word, int(number or -1)) for word, number in re.findall(r"(\D*)(\d*)", text)]
