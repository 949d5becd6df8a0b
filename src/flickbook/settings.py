"""What the person who runs Flickbook decides once: the only reader of the environment and of flickbook.toml.

What wins, highest first: an option of the command, the environment (`FLICKBOOK_OUTPUT_DIR`), `flickbook.toml` in the
working directory, `flickbook.toml` in the user's configuration directory, the default. Importing this module costs
about 0.15 s of process time, so the command line does it inside the commands.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_cache_path, user_config_path, user_data_path
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flickbook.errors import SettingsError

PREFIX = "FLICKBOOK_"
FILE = "flickbook.toml"
HomePath = Annotated[Path, AfterValidator(Path.expanduser)]


def _listed(value: object) -> tuple[str, ...]:
    """A text with commas, or a list, as its parts."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else (value,)
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _proxies(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value} is no IP address and no network such as 10.0.0.0/8") from None
    return values


class Settings(BaseSettings):
    """One person's settings on one machine.

    `output_dir`: where films without `--output` go, relative to the working directory. `cache_dir`: what may be deleted
    at any time. `text_cache_mib`: the most MiB that the meanings of prompts take there, 0 keeps none. `data_dir`: what
    may not: converted models, and the list of models that were added. `threads`: processor threads to compute with,
    None for the library's choice. `model`: the model of a request that names none. `log_level`: what is written to
    stderr; debug shows tracebacks. `store`: where jobs are kept, sqlite:///PATH or mongodb://…; empty for a file in
    data_dir. `pull`: whether the files of a model that is not on this machine are downloaded when a film needs them:
    ask on a terminal and refuse elsewhere, or auto. `jobs_dir`: the films, checkpoints and logs of jobs; None for a
    directory in data_dir. `batch`: queued jobs of one shape that a worker runs as one batch at most, None for what pays
    on its device. `url`, `key`: a Flickbook service that the window asks instead of this machine, and the key for it.
    `trusted_proxies`: addresses or networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto the service
    believes, none by default; a text with commas between them, or what FORWARDED_ALLOW_IPS holds.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    output_dir: HomePath = Path("outputs")
    cache_dir: HomePath = Field(default_factory=lambda: user_cache_path("flickbook"))
    text_cache_mib: Annotated[int, Field(ge=0, le=1 << 20)] = 256
    data_dir: HomePath = Field(default_factory=lambda: user_data_path("flickbook"))
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    model: str = "builtin"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    store: str = ""
    pull: Literal["ask", "auto"] = "ask"
    jobs_dir: HomePath | None = None
    batch: Annotated[int, Field(ge=1, le=64)] | None = None
    url: str = ""
    key: SecretStr = SecretStr("")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_proxies)] = Field(
        default_factory=lambda: _proxies(_listed(os.environ.get("FORWARDED_ALLOW_IPS", "")))
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, highest first."""
        files = (TomlConfigSettingsSource(settings_cls, toml_file=path) for path in files_read())
        return (init_settings, env_settings, *files)


def files_read() -> tuple[Path, Path]:
    """The files settings are read from when they exist, the stronger first: the project's, then the user's."""
    return Path.cwd() / FILE, user_config_path("flickbook") / FILE


def load(**overrides: Any) -> Settings:
    """The settings of this process as they stand now; `overrides` that are not None win over every source.

    Raises SettingsError for a file that is not TOML, an unknown key in it, or a value out of its limits.
    """
    _check_files()
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        remedy = f"correct {PREFIX}{field.upper()} or {FILE}"
        if first["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            raise SettingsError(field, first["input"], f"not a setting; known are {known}", remedy) from None
        raise SettingsError(field, first["input"], first["msg"], remedy) from None


def inherited(**changes: str) -> dict[str, str]:
    """The environment of a process that this one starts: its own, with `changes`."""
    return {**os.environ, **changes}


def _check_files() -> None:
    """Refuse a settings file that cannot be read before pydantic meets it, because pydantic does not name the file."""
    for path in files_read():
        try:
            if path.is_file():
                tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(FILE, path, f"cannot be read: {error}", "correct or remove this file") from None
