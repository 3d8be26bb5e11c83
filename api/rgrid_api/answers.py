"""Answers on hot routes: the document goes out as it is, without being validated a second time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import Response


def answer(document: Mapping[str, Any], status: int = 200, *, then: BackgroundTask | None = None) -> Response:
    """``document`` as JSON. The route's ``response_model`` still describes it in the OpenAPI."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json", background=then)
