"""Settings of the API, read from environment variables ``CHURN_*`` when it starts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields

from churn_utils import settings
from churn_utils.errors import UsageError

LEAST_LOG_CAPACITY = 2_000  # answers to the largest request: 1,000 customers, each of whom a shadow may answer as well


def _setting(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ServingSettings:
    """How the API protects itself and what it works on; field ``rate_limit`` is the variable ``CHURN_RATE_LIMIT``."""

    online_store: str = _setting("", "redis://host:port/db; empty: SQLite in the home")
    online_prefix: str = _setting(
        "", "of the keys in Redis, where homes may share one; empty: the home's own"
    )
    api_keys: str = _setting(
        "", "comma-separated keys, one of which X-API-Key must hold for /v1; empty: none"
    )
    rate_limit: float = _setting(0.0, "requests a second that one caller may send; 0: no limit")
    cors_origins: str = _setting(
        "", "comma-separated origins that browsers may call from; empty: none"
    )
    max_body_bytes: int = _setting(1_000_000, "larger bodies are refused with 413")
    max_connections: int = _setting(
        1_000, "requests over further ones are answered 503; twice as many are closed"
    )
    today: str = _setting(
        "", "simulated today, such as 2025-02-01; empty: the day of the newest features"
    )
    poll_seconds: float = _setting(
        1.0, "how often promotions, trials and new features are looked for"
    )
    publish: bool = _setting(
        True, "publish changed features into the online store whenever they are looked for"
    )
    log_capacity: int = _setting(
        100_000, "answers that may wait to be logged; beyond, requests are refused with 503"
    )
    log_seconds: float = _setting(
        2.0, "how often the log is written; a process that is killed loses what waits"
    )
    access_log: bool = _setting(True, "write a JSON line per request to standard output")

    def __post_init__(self) -> None:
        """Refuse what would switch a protection off by mistake.

        Raises:
            UsageError: a number out of range or a date that is none.
        """
        for name in (
            "max_body_bytes",
            "max_connections",
            "poll_seconds",
            "log_capacity",
            "log_seconds",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{variable(name)} is {getattr(self, name)}; it must be above 0.")
        if not 0 <= self.rate_limit < math.inf:
            raise UsageError(
                f"{variable('rate_limit')} is {self.rate_limit}; it must be 0 or above."
            )
        if self.log_capacity < LEAST_LOG_CAPACITY:
            raise UsageError(
                f"{variable('log_capacity')} is {self.log_capacity}; below {LEAST_LOG_CAPACITY} a request of the "
                "largest size, with a shadow's answers beside its own, would be refused each time it is tried."
            )
        if self.api_keys and not self.keys:
            raise UsageError(
                f"{variable('api_keys')} holds no key; leave it out if none is to be asked for."
            )
        if self.online_store and not self.online_store.startswith(
            ("redis://", "rediss://", "unix://")
        ):
            raise UsageError(
                f"{variable('online_store')} is no address of a Redis server; write one such as "
                "redis://localhost:6379/0, or leave it out for SQLite in the home."
            )
        if self.today:
            settings.as_of_date(self.today, variable("today"))

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that open the API."""
        return tuple(key.strip().encode() for key in self.api_keys.split(",") if key.strip())

    @property
    def origins(self) -> list[str]:
        """Origins that browsers may call from."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def variable(name: str) -> str:
    """Environment variable of a setting."""
    return f"CHURN_{name.upper()}"


def read_serving_settings() -> ServingSettings:
    """Read the settings from the environment.

    Raises:
        UsageError: a value of the wrong type or out of range; the message names the variable.
    """
    given = {}
    for entry in fields(ServingSettings):
        text = os.environ.get(variable(entry.name), "").strip()
        if text:
            given[entry.name] = _parse(variable(entry.name), text, type(entry.default))
    return ServingSettings(**given)


def _parse(name: str, text: str, kind: type):
    if kind is bool:
        if text.lower() not in ("0", "1", "true", "false"):
            raise UsageError(f"{name} is {text!r}; write 1 or 0.")
        return text.lower() in ("1", "true")
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(
            f"{name} is {text!r}; it takes a value of type {kind.__name__}."
        ) from error


def describe_settings() -> str:
    """One line per variable, for ``--help``."""
    lines = [
        f"  {variable(e.name):<22} {e.metadata['help']}"
        + (f" (default {e.default})" if e.default != "" else "")
        for e in fields(ServingSettings)
    ]
    return "\n".join(lines)
