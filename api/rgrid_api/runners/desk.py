"""Everything that runners' routes work with, built once for each process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from rgrid_api.runners.finishing import finish
from rgrid_api.runners.handover import Handover
from rgrid_api.runners.polling import Poller
from rgrid_api.runners.registry import Owners
from rgrid_api.runners.reports import Reporter
from rgrid_api.services import Services
from rgrid_shared.protocol import FinishReply, FinishRequest


@dataclass(frozen=True, slots=True)
class Desk:
    """Where runners are served."""

    services: Services
    owners: Owners
    handover: Handover
    poller: Poller
    reporter: Reporter

    @classmethod
    def of(cls, services: Services) -> Self:
        """The desk of a process."""
        limit = services.settings.log_limit
        handover = Handover(services.database, services.store, services.vault, limit)
        return cls(
            services=services,
            owners=Owners(services.database),
            handover=handover,
            poller=Poller(services.database, services.hub, services.queue, handover),
            reporter=Reporter(services.database, limit),
        )

    async def finish(self, runner_id: str, token_id: str, request: FinishRequest) -> FinishReply:
        """End attempts and, in the same request, fill the slots that they freed."""
        parts = self.services
        answers = await finish(parts.database, parts.store, parts.queue, runner_id, request["reports"])
        claimed = await self.poller.claim(runner_id, token_id, request["claim"])
        claims, specs = await self.handover.hand_over(claimed)
        return {"answers": answers, "claims": claims, "specs": specs}
