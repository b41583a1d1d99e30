"""Settings of the API, read from environment variables ``CHURN_*`` when it starts."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.serving.api_keys import ApiKeys

# Predictions for the largest request: 1,000 customers, each of which a shadow may score as well.
LEAST_LOG_CAPACITY = 2_000
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
OUT_OF_RANGE = {
    "greater_than": "it must be above 0.",
    "greater_than_equal": "it must be 0 or above.",
    "finite_number": "it must be a finite number.",
}


class ServingSettings(BaseSettings):
    """How the API protects itself and what it works on.

    Field ``rate_limit`` is the variable ``CHURN_RATE_LIMIT``.
    """

    model_config = SettingsConfigDict(
        env_prefix="CHURN_",
        frozen=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,  # they are the descriptions that --help shows
    )

    online_store: str = ""
    """redis://host:port/db; empty: SQLite in the home"""
    online_prefix: str = ""
    """of the keys in Redis, where homes may share one; empty: the home's own"""
    api_keys: str = ""
    """comma-separated name:key, one of which X-API-Key must hold for /v1; empty: none"""
    api_keys_file: str = ""
    """file with a name:key a line, read again when it changes; empty: none"""
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    """comma-separated hosts that requests may be for (421); *: any"""
    rate_limit: FiniteFloat = Field(default=0.0, ge=0)
    """requests a second that one caller may send; 0: no limit"""
    cors_origins: str = ""
    """comma-separated origins that browsers may call from; empty: none"""
    max_body_bytes: PositiveInt = 1_000_000
    """larger bodies are refused with 413"""
    max_connections: PositiveInt = 1_000
    """requests over further ones are answered 503; twice as many are closed"""
    max_connections_per_address: PositiveInt = 250
    """of one caller's address; requests over further ones are answered 503"""
    receive_seconds: FiniteFloat = Field(default=10.0, gt=0)
    """in which a request's head, and its body, must arrive (408), and an answer be taken"""
    drain_seconds: FiniteFloat = Field(default=5.0, ge=0)
    """how long requests are still answered after SIGTERM, while /readyz says 503"""
    trusted_proxies: str = ""
    """comma-separated addresses whose X-Forwarded-For is believed; empty: none"""
    today: str = ""
    """simulated today, such as 2025-02-01; empty: the day of the newest features"""
    poll_seconds: FiniteFloat = Field(default=1.0, gt=0)
    """how often promotions, A/B tests and new features are looked for"""
    publish: bool = True
    """publish changed features into the online store whenever they are found"""
    log_capacity: PositiveInt = 100_000
    """answers that may wait to be logged; beyond, requests are refused with 503"""
    log_seconds: FiniteFloat = Field(default=2.0, gt=0)
    """how often the log is written; a process that is killed loses what waits"""
    log_durable: bool = False
    """answer after the log entry is on disk, so that a process that is killed loses none"""
    log_retention_months: PositiveInt = settings.LOG_RETENTION_MONTHS
    """how long answers stay in the inference log, and so their receipts"""
    access_log: bool = True
    """write a JSON line per request to standard output"""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, given: dict[str, Any], build: ModelWrapValidatorHandler[Self]) -> Self:
        """Build the settings and refuse what would switch a protection off by mistake.

        A blank variable counts as not set.

        Raises:
            UsageError: a value of the wrong type or out of range; the message names the variable.
        """
        values = {}
        for name, value in given.items():
            is_blank = isinstance(value, str) and not value.strip()
            if not is_blank:
                values[name] = value
        try:
            built = build(values)
        except ValidationError as error:
            raise UsageError(_explain(error)) from error
        built._check_further()
        return built

    def _check_further(self) -> None:
        """Refuse a log that is too small, and keys, addresses and dates that are none."""
        if self.log_capacity < LEAST_LOG_CAPACITY:
            raise UsageError(
                f"{variable('log_capacity')} is {self.log_capacity}; below {LEAST_LOG_CAPACITY} "
                "a request of the largest size, with a shadow's answers beside its own, would be "
                "refused each time it is tried."
            )
        if self.api_keys and not _split(self.api_keys):
            raise UsageError(
                f"{variable('api_keys')} holds no key; leave it out if none is to be asked for."
            )
        self.read_keys()
        if self.online_store and not self.online_store.startswith(REDIS_SCHEMES):
            raise UsageError(
                f"{variable('online_store')} is no address of a Redis server; write one such as "
                "redis://localhost:6379/0, or leave it out for SQLite in the home."
            )
        if self.today:
            settings.as_of_date(self.today, variable("today"))

    def read_keys(self) -> ApiKeys:
        """Read the keys that open the API.

        Raises:
            UsageError: an entry that is no name and key, or a file that cannot be read.
        """
        return ApiKeys(_split(self.api_keys), self.api_keys_file)

    @property
    def hosts(self) -> list[str]:
        """Hosts that requests may be for."""
        return _split(self.allowed_hosts)

    @property
    def proxies(self) -> list[str]:
        """Addresses of the proxies in front of the API."""
        return _split(self.trusted_proxies)

    @property
    def origins(self) -> list[str]:
        """Origins that browsers may call from."""
        return _split(self.cors_origins)


def _split(text: str) -> list[str]:
    """Return the parts of a comma-separated text that are not blank."""
    parts = [part.strip() for part in text.split(",")]
    return [part for part in parts if part]


def _explain(error: ValidationError) -> str:
    """Say which variable has a value of the wrong type or out of range.

    Only the first of the errors is explained: the others are seen when that one is repaired.
    """
    first, *_ = error.errors()
    name = str(first["loc"][0])
    if name not in ServingSettings.model_fields:
        return f"there is no setting {name!r}."
    kind = type(ServingSettings.model_fields[name].default)
    expected = f"it takes a value of type {kind.__name__}."
    if kind is bool:
        expected = "write 1 or 0."
    elif first["type"] in OUT_OF_RANGE:
        expected = OUT_OF_RANGE[first["type"]]
    return f"{variable(name)} is {first['input']!r}; {expected}"


def variable(name: str) -> str:
    """Return the environment variable of a setting, such as ``rate_limit``."""
    return f"CHURN_{name.upper()}"


def describe_settings() -> str:
    """Return the table of variables for ``--help``.

    Each line holds a variable, its description and, unless it is empty, its default.
    """
    lines = []
    for name, field in ServingSettings.model_fields.items():
        line = f"  {variable(name):<22} {field.description}"
        if field.default != "":
            line += f" (default {field.default})"
        lines.append(line)
    return "\n".join(lines)
