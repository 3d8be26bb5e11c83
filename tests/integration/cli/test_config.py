"""Which server a command talks to, where settings come from, and how keys are kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rgrid import config, credentials, runs
from rgrid.config import Defaults, configured_server, resolve_server
from rgrid.credentials import Entry
from rgrid_shared.errors import UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of rgrid's own and no variable of it set."""
    for name in [name for name in os.environ if name.startswith("RGRID_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RGRID_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_keys_are_for_nobody_else(home: Path) -> None:
    """The credentials file is 0600 and its directory 0700, whatever the umask; what is saved is read back."""
    old = os.umask(0)
    try:
        credentials.save(home, "default", Entry("https://a", "rgr_1"))
        credentials.save(home, 'odd "name" ü', Entry("https://b", "rgr_2"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((home / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert credentials.load(home) == {
        "default": Entry("https://a", "rgr_1"),
        'odd "name" ü': Entry("https://b", "rgr_2"),
    }


def test_open_or_damaged_credentials_are_refused(home: Path) -> None:
    """A key file that others can read, or that is no TOML, is named with what to do."""
    path = credentials.save(home, "default", Entry("https://a", "rgr_1"))
    path.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        credentials.load(home)
    assert "chmod 600" in caught.value.hint
    path.chmod(0o600)
    path.write_text("[broken")
    with pytest.raises(UsageError):
        credentials.load(home)


def test_keys_do_not_show_in_reprs() -> None:
    """A key does not leak through a traceback or a log of objects."""
    assert "rgr_1" not in repr(Entry("https://a", "rgr_1"))
    assert "rgr_1" not in repr(config.Server("https://a", "rgr_1"))


@pytest.mark.parametrize(
    ("env", "profile", "url", "found"),
    [
        ({}, None, None, ("https://default", "rgr_d")),
        ({"RGRID_PROFILE": "other"}, None, None, ("https://other", "rgr_o")),
        ({"RGRID_PROFILE": "other"}, "default", None, ("https://default", "rgr_d")),
        ({"RGRID_SERVER": "https://other"}, None, None, ("https://other", "rgr_o")),
        ({"RGRID_SERVER": "https://env", "RGRID_API_KEY": "rgr_e"}, None, None, ("https://env", "rgr_e")),
        ({"RGRID_API_KEY": "rgr_e"}, None, None, ("https://default", "rgr_e")),
        ({"RGRID_SERVER": "https://env", "RGRID_API_KEY": "rgr_e"}, None, "https://flag", ("https://flag", "rgr_e")),
        ({"RGRID_SERVER": "local"}, None, None, None),
        ({}, "local", None, None),
    ],
)
def test_flags_win_over_environment_over_files(
    env: dict[str, str],
    profile: str | None,
    url: str | None,
    found: tuple[str, str] | None,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flag, environment, profile, default profile; ``local`` is the embedded grid."""
    credentials.save(home, "default", Entry("https://default", "rgr_d"))
    credentials.save(home, "other", Entry("https://other", "rgr_o"))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    server = configured_server(profile, url)
    assert (None if server is None else (server.url, server.api_key)) == found


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1", "http://grid.example:8000", "https://u:p@host", "https://h?x=1", "ftp://x"]
)
def test_keys_do_not_cross_the_network_in_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http beyond the loopback, and addresses that hold more than a server, are refused first."""
    monkeypatch.setenv("RGRID_API_KEY", "rgr_x")
    with pytest.raises(UsageError):
        resolve_server(url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://grid.example"])
def test_loopback_and_https_are_fine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine http is fine, beyond it https."""
    monkeypatch.setenv("RGRID_API_KEY", "rgr_x")
    assert resolve_server(url=url).url == url


def test_unknown_profiles_and_servers_say_what_to_type() -> None:
    """A profile that is not there, or a server without a key, names the command that makes it."""
    for profile, url in (("nope", None), (None, "https://nope")):
        with pytest.raises(UsageError) as caught:
            resolve_server(profile, url)
        assert "rgrid login" in caught.value.hint


def test_reading_commands_start_no_first_grid() -> None:
    """``rgrid list`` on a machine where nothing ever ran says so, and starts nothing."""
    with pytest.raises(UsageError) as caught:
        resolve_server(start=False)
    assert "rgrid run" in caught.value.hint


def test_settings_come_in_layers(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment over the script's block over the project's file over the user's file; the source is known."""
    project = tmp_path / "p/q"
    project.mkdir(parents=True)
    home.mkdir()
    (tmp_path / "p/.rgrid").mkdir()
    (home / "config.toml").write_text('runtime = "user"\nmemory = "1GB"\ncpu = 1\ndisk = "u"\n')
    (tmp_path / "p/.rgrid/config.toml").write_text('runtime = "project"\nmemory = "2GB"\ngpu-memory = "p"\n')
    monkeypatch.setenv("RGRID_RUNTIME", "env")
    defaults = Defaults.load(project, {"runtime": "script", "memory": "3GB"})
    assert defaults.find("runtime") == ("env", "environment")
    assert defaults.lookup("memory") == "3GB"
    assert defaults.lookup("gpu_memory") == "p"
    assert defaults.lookup("gpu-memory") == "p"
    assert defaults.lookup("cpu") == 1
    assert defaults.lookup("absent") is None


def test_broken_settings_name_the_file(home: Path) -> None:
    """A config file that is no TOML is named."""
    home.mkdir()
    (home / "config.toml").write_text("= 1")
    with pytest.raises(UsageError) as caught:
        Defaults.load()
    assert str(home / "config.toml") in caught.value.message


def test_records_of_runs_come_back(home: Path) -> None:
    """What was remembered of a submission is what is recalled, odd names too; damage counts as absence."""
    known = {"a \udcff.txt": runs.Known("0" * 64, 5, 123)}
    record = runs.Record("/r", "w", "", True, files=known, written={"/r/w/x": "1" * 64})
    runs.remember("bat_1", record)
    assert runs.recall("bat_1") == record
    (home / "runs/bat_1.json").write_text("{")
    assert runs.recall("bat_1") is None
    assert runs.recall("bat_2") is None
    runs.forget("bat_1")
    runs.forget("bat_1")


def test_old_records_are_forgotten(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records do not grow without bound: the newest are kept."""
    monkeypatch.setattr(runs, "KEEP", 3)
    for number in range(6):
        runs.remember(f"bat_{number}", runs.Record("/", "", "", True))
    assert sorted(os.listdir(home / "runs")) == [f"bat_{number}.json" for number in (2, 3, 4, 5)]
