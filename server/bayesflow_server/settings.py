"""Every environment variable and launch flag, in one place.

BAYESFLOW_DB              the database file (--db)
BAYESFLOW_CACHE           where weights are kept (see `models.weights`)
BAYESFLOW_ENDPOINTS       further model endpoints, separated by white space (--endpoint)
BAYESFLOW_SCORERS         trusted scorer files, separated by white space (--scorer-file)
BAYESFLOW_CONFIRM_ABOVE   US dollars above which spending needs the user's word (--confirm-above)
BAYESFLOW_LOG             log level on stderr: DEBUG, INFO, WARNING, ERROR (--log)
ANTHROPIC_API_KEY, OPENAI_API_KEY   keys of the providers; read by their adapters alone
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bayesflow_server.errors import InputError

__all__ = ["Settings", "read_settings"]


class Settings(BaseModel):
    """What a server process is started with.

    Attributes:
        db: The database file.
        log: Log level on stderr.
        endpoints: Model endpoints beside the providers', as `models.endpoints` reads them.
        scorers: Trusted scorer files, as `evaluation.scorer_file` reads them.
        confirm_above: US dollars; a request that may spend more needs the user's word.
        auto_resume: Whether a server goes on with runs whose process is gone.
        read_only: Whether the server offers only tools that change and spend nothing.
        tools: Names of the tools the server offers, or None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    db: Path
    log: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    endpoints: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ()
    confirm_above: float = Field(default=10.0, ge=0)
    auto_resume: bool = True
    read_only: bool = False
    tools: tuple[str, ...] | None = None


def read_settings(
    db: str | None = None,
    log: str | None = None,
    environment: Mapping[str, str] = os.environ,
    endpoints: Sequence[str] = (),
    scorers: Sequence[str] = (),
    **flags: float | bool | Sequence[str] | None,
) -> Settings:
    """Settings from flags, then the environment, then the platform's conventions.

    Args:
        db: The database file, or None.
        log: Log level, or None.
        environment: Variables.
        endpoints: Model endpoints.
        scorers: Trusted scorer files.
        flags: Further fields of `Settings`; None where a flag was not given.

    Raises:
        InputError: A value is not one that the setting takes.
    """
    path = db or environment.get("BAYESFLOW_DB")
    level = log or environment.get("BAYESFLOW_LOG") or "WARNING"
    above = environment.get("BAYESFLOW_CONFIRM_ABOVE")
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(
            {
                "db": _absolute(path) if path else _default_database(),
                "log": level.upper(),
                "endpoints": (*environment.get("BAYESFLOW_ENDPOINTS", "").split(), *endpoints),
                "scorers": (*environment.get("BAYESFLOW_SCORERS", "").split(), *scorers),
                **({"confirm_above": above} if above else {}),
                **given,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            f"The setting {first['loc'][0]!r} cannot be {first['input']!r}: {first['msg']}."
        ) from None


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _default_database() -> Path:
    # Here, so that a server that is told its file does not pay for the import.
    from platformdirs import user_data_path

    return user_data_path("bayesflow-mcp", appauthor=False) / "bayesflow.sqlite3"
