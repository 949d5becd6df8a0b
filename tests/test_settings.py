"""Settings: what wins over what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from flickbook import settings
from flickbook.errors import SettingsError


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own flickbook.toml, not yet written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = settings.files_read()[1]
    path.parent.mkdir(parents=True)
    return path


def test_the_defaults(work: Path) -> None:
    found = settings.load()
    assert (found.output_dir, found.threads, found.model, found.log_level) == (
        Path("outputs"),
        None,
        "builtin",
        "warning",
    )
    assert found.cache_dir.is_absolute()


def test_option_over_environment_over_project_over_user(
    work: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file.write_text('model = "user"\nthreads = 1\nlog_level = "error"\noutput_dir = "user"\n')
    assert settings.load().output_dir == Path("user")
    (work / "flickbook.toml").write_text('model = "project"\nthreads = 2\nlog_level = "info"\n')
    monkeypatch.setenv("FLICKBOOK_MODEL", "environment")
    monkeypatch.setenv("FLICKBOOK_THREADS", "3")
    found = settings.load(model="option", threads=None)
    assert (found.model, found.threads, found.log_level, found.output_dir) == ("option", 3, "info", Path("user"))


def test_a_home_directory_is_expanded(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("FLICKBOOK_OUTPUT_DIR", "~/films")
    assert settings.load().output_dir == Path("/somewhere/films")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("threads = 0", "threads"),
        ('threads = "many"', "threads"),
        ('log_level = "loud"', "log_level"),
        ('modle = "builtin"', "modle"),
        ("[model]\nname = 1", "model"),
        ("threads = ", "flickbook.toml"),
        ("\x00", "flickbook.toml"),
    ],
)
def test_a_bad_file_is_refused_and_named(work: Path, text: str, field: str) -> None:
    (work / "flickbook.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert caught.value.field == field
    assert "flickbook.toml" in str(caught.value)


def test_a_bad_variable_is_refused_and_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_THREADS", "-2")
    with pytest.raises(SettingsError, match="threads=-2: .*FLICKBOOK_THREADS"):
        settings.load()


def test_a_variable_of_no_setting_is_left_alone(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLICKBOOK_SOMETHING_ELSE", "1")
    assert settings.load().model == "builtin"


@profile(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=60))
def test_any_file_gives_settings_or_a_refusal(work: Path, content: bytes) -> None:
    (work / "flickbook.toml").write_bytes(content)
    try:
        settings.load()
    except SettingsError as error:
        assert "\n" not in str(error)


def test_trusted_proxies_are_addresses_and_networks_and_none_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert settings.load().trusted_proxies == ()
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.2")
    assert settings.load().trusted_proxies == ("10.0.0.2",)
    (tmp_path / "flickbook.toml").write_text('trusted_proxies = ["10.0.0.3"]\n')
    assert settings.load().trusted_proxies == ("10.0.0.3",)
    monkeypatch.setenv("FLICKBOOK_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,::1")
    assert settings.load().trusted_proxies == ("127.0.0.1", "10.0.0.0/8", "::1")
    assert settings.load(trusted_proxies=["192.0.2.1"]).trusted_proxies == ("192.0.2.1",)
    for wrong in ("*", "proxy.example"):
        with pytest.raises(SettingsError, match="trusted_proxies"):
            settings.load(trusted_proxies=[wrong])
