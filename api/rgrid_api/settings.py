"""What the control plane is told by its environment: every setting is ``RGRID_<NAME>``."""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rgrid_api.queue.timing import Timing

Positive = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """All settings of one API process. Seconds and bytes unless a name says otherwise.

    ``secret_key``: 32 bytes in url-safe base 64; encrypts environment values at rest. ``s3_public_endpoint``: what
    presigned URLs name, if runners and clients reach the store by another address. ``s3_single_put_max``: larger
    objects are sent in parts. ``time_scale`` multiplies every lease, poll, fence, sweep and promote interval (tests
    use small ones). ``bootstrap_*``: made sure to exist at start.
    """

    model_config = SettingsConfigDict(env_prefix="RGRID_", frozen=True, extra="ignore")

    database_url: SecretStr
    database_pool: Annotated[int, Field(ge=2, le=200)] = 5
    database_overflow: Annotated[int, Field(ge=0, le=200)] = 15

    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str
    s3_region: str = "us-east-1"
    s3_public_endpoint: str = ""
    s3_single_put_max: Annotated[int, Field(ge=5 * 1024**2, le=5 * 1024**3)] = 64 * 1024**2

    secret_key: SecretStr

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080

    bootstrap_project: str = ""
    bootstrap_key: SecretStr | None = None
    bootstrap_runner_token: SecretStr | None = None

    allow_process_backend: bool = False
    time_scale: Positive = 1.0
    log_limit: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    log_archive_after_s: Positive = 600.0
    shutdown_grace_s: Positive = 10.0

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
            raise ValueError("must be a postgresql:// URL")
        return value

    @field_validator("secret_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        try:
            length = len(base64.urlsafe_b64decode(value.get_secret_value()))
        except (binascii.Error, ValueError) as error:
            raise ValueError("must be url-safe base 64") from error
        if length != 32:
            raise ValueError(f"must hold 32 bytes, not {length}")
        return value

    @property
    def database_dsn(self) -> str:
        """The database's address as libpq and asyncpg write it: ``postgresql://…``."""
        _, _, rest = self.database_url.get_secret_value().partition("://")
        return f"postgresql://{rest}"

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address for SQLAlchemy."""
        _, _, rest = self.database_url.get_secret_value().partition("://")
        return f"postgresql+asyncpg://{rest}"

    @cached_property
    def timing(self) -> Timing:
        """Leases and intervals, scaled."""
        return Timing.scaled(self.time_scale)
