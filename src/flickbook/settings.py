"""User settings: the only module that reads the environment and flickbook.toml.

Precedence, highest first: command-line options, the environment (`FLICKBOOK_OUTPUT_DIR`), `flickbook.toml` in the
working directory, `flickbook.toml` in the user's configuration directory, the defaults. Importing this module takes
about 0.15 s of process time, so the command line imports it inside the commands.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
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
    """Split a comma-separated text, or a list, into its parts."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else (value,)
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _proxies(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value} is neither an IP address nor a network such as 10.0.0.0/8") from None
    return values


def _aliases(value: object) -> object:
    """Read NAME=MODEL pairs, separated by commas."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _listed(value)]
    if not all(sign and name.strip() and model.strip() for name, sign, model in pairs):
        raise ValueError("must be NAME=MODEL pairs, separated by commas")
    return {name.strip(): model.strip() for name, _, model in pairs}


class Settings(BaseSettings):
    """The settings of one user on one machine.

    - `output_dir`: directory of films without `--output`, relative to the working directory.
    - `cache_dir`: data that may be deleted at any time.
    - `text_cache_mib`: size limit (MiB) of the prompt cache in cache_dir; 0 disables it.
    - `data_dir`: data that must be kept: converted models, and the list of added models.
    - `threads`: CPU threads for computation; None for the library's default.
    - `model`: the default model.
    - `log_level`: level of the log on stderr; debug shows tracebacks.
    - `store`: job store, sqlite:///PATH or mongodb://…; empty for a file in data_dir.
    - `pull`: whether missing model files are downloaded: "ask" on a terminal (and refuse elsewhere), or "auto".
    - `jobs_dir`: films, checkpoints and logs of jobs; None for a directory in data_dir.
    - `artifacts`: storage that machines share for the files of jobs, as s3://BUCKET/PATH or a directory; empty for
      jobs_dir alone.
    - `batch`: the most queued jobs of equal shape in one batch of a worker; None for what pays off on its device.
    - `ulysses_degree`: GPUs that share the tokens of one film, for models whose networks can be split.
    - `url`, `key`: a Flickbook service that the window uses instead of this machine, and its API key.
    - `aliases`: names of other services' models that clients of the OpenAI-compatible API may send, and the model that
      each stands for: a table, or a text such as "sora-2=builtin". None by default.
    - `trusted_proxies`: addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted: a
      comma-separated text, or the content of FORWARDED_ALLOW_IPS. None by default.
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
    artifacts: str = ""
    batch: Annotated[int, Field(ge=1, le=64)] | None = None
    ulysses_degree: Annotated[int, Field(ge=1, le=64)] = 1
    url: str = ""
    key: SecretStr = SecretStr("")
    aliases: Annotated[dict[str, str], NoDecode, BeforeValidator(_aliases)] = Field(default_factory=dict)
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
        """Return the sources, highest precedence first."""
        files = (TomlConfigSettingsSource(settings_cls, toml_file=path) for path in files_read())
        return (init_settings, env_settings, *files)


def files_read() -> tuple[Path, Path]:
    """Return the settings files that are read if they exist: the project's, which takes precedence, and the user's."""
    return Path.cwd() / FILE, user_config_path("flickbook") / FILE


def load(**overrides: Any) -> Settings:
    """Load the current settings of this process; `overrides` that are not None take precedence over every source.

    Raises SettingsError for a file that is not valid TOML, an unknown key in it, or an invalid value.
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


def set_defaults(variables: Mapping[str, str]) -> dict[str, str]:
    """Set the environment variables of a library, for this process and its children, that the user has not set.

    Returns the values of all `variables`.
    """
    return {name: os.environ.setdefault(name, value) for name, value in variables.items()}


def inherited(**changes: str) -> dict[str, str]:
    """Return the environment for a child process: that of this process, with `changes`."""
    return {**os.environ, **changes}


def _check_files() -> None:
    """Refuse an unreadable settings file before pydantic reads it, because pydantic does not name the file."""
    for path in files_read():
        try:
            if path.is_file():
                tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(FILE, path, f"cannot be read: {error}", "correct or remove this file") from None
