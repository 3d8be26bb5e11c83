"""``rgrid-runner``: run the agent of this host. Settings come from the environment."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from rgrid_runner.agent import Agent
from rgrid_runner.backends.base import BackendError
from rgrid_runner.equipment import equip
from rgrid_runner.settings import VARIABLES, Settings, from_env
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError, UsageError

log: Final = logging.getLogger("rgrid.runner")


def main() -> None:
    """The command. Exits with 0 after a drain, 2 if a setting is wrong, 4 if the API refuses the token."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.umask(0o022)
    try:
        settings = from_env()
        if arguments.slots is not None:
            settings = replace(settings, slots=arguments.slots)
        if arguments.drain_timeout is not None:
            settings = replace(settings, drain_timeout_s=arguments.drain_timeout)
        with _alone(settings.state):
            asyncio.run(run(settings))
    except (RgridError, BackendError) as error:
        print(f"rgrid-runner: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


async def run(settings: Settings) -> None:
    """Run an agent until it is told to go: SIGTERM or SIGINT drains, a second one leaves at once."""
    loop = asyncio.get_running_loop()
    agent = Agent(settings, await equip(settings, dict(os.environ)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.drain)
    await agent.run()


def _alone(state: Path) -> IO[str]:
    """Take the state directory for this process, as long as the file stays open. UsageError if another has it."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise UsageError(f"The state directory cannot be used: {error}", hint=VARIABLES["RGRID_RUNNER_DIR"]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(
            f"Another runner works in {state}", hint="Stop it, or set RGRID_RUNNER_DIR to another directory."
        ) from None
    return lock


class _Parser(argparse.ArgumentParser):
    """Knows all settings, and looks for them only when they are asked for."""

    def format_help(self) -> str:
        self.epilog = "Environment:\n" + "\n".join(
            f"  {name:<28}{meaning}" for name, meaning in all_variables().items()
        )
        return super().format_help()


def all_variables() -> dict[str, str]:
    """Every setting of every kind of runner, and what it means."""
    from rgrid_runner import runtimes
    from rgrid_runner.containers import network
    from rgrid_runner.containers import settings as containers

    both = {"RGRID_RUNNER_RUNTIMES": VARIABLES["RGRID_RUNNER_RUNTIMES"]}
    boxed = {**containers.VARIABLES, **runtimes.VARIABLES, **network.VARIABLES, **both}
    return VARIABLES | {name: meaning if name in VARIABLES else f"Docker: {meaning}" for name, meaning in boxed.items()}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rgrid-runner",
        description="The rgrid agent of a host: claims executions and runs them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rgrid-runner {__version__}")
    parser.add_argument("--slots", type=int, metavar="N", help="executions at a time")
    parser.add_argument(
        "--drain-timeout", type=float, metavar="SECONDS", help="after SIGTERM, leave what still runs to a successor"
    )
    return parser


if __name__ == "__main__":
    main()
