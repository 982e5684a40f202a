# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse serve`: the daemon."""

from __future__ import annotations

import argparse
import faulthandler
from contextlib import ExitStack
from pathlib import Path

from pagepulse.errors import PagepulseError
from pagepulse.kernel.capabilities import KEPT, keep_only
from pagepulse.kernel.census import allow_many_files
from pagepulse.kernel.host import facts, require
from pagepulse.kernel.instruments import instruments
from pagepulse.kernel.usage import Wakeups, end_at_interrupt
from pagepulse.service.config import load_configuration
from pagepulse.service.daemon import ONLY_ROOT, Daemon
from pagepulse.service.exporter import Exporter
from pagepulse.service.notify import Notifier, Priority, log
from pagepulse.service.places import DIRECTORY
from pagepulse.service.server import Server


class Serve:
    """Watch and treat what a configuration directory names, as a service, until SIGTERM.

    The directory has a file pagepulse.toml and drop-ins, conf.d/*.toml; `pagepulse check DIRECTORY` explains it. It is
    read again on SIGHUP and when it changes; what is refused leaves everything as it is. `pagepulse status` and `top`
    ask the daemon, `pause` and `resume` tell it to rest and to go on. Schemes begin with a small part of their quotas,
    also after a restart, and no memory counts as idle for longer than the daemon has watched it.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """The directory."""
        parser.add_argument("--config", type=Path, metavar="DIRECTORY", default=DIRECTORY,
                            help=f"the configuration (default: {DIRECTORY})")

    def run(self, args: argparse.Namespace) -> int:
        """Serve until SIGTERM or SIGINT."""
        faulthandler.enable()  # should an interpreter or a library crash, the journal tells where
        end_at_interrupt()
        require(facts())
        configuration = load_configuration(args.config, ONLY_ROOT)
        allow_many_files()
        with ExitStack() as stack:
            notifier = Notifier()
            tools = stack.enter_context(instruments())
            wakeups = Wakeups()
            stack.callback(wakeups.close)
            daemon = Daemon(args.config, configuration, tools, wakeups, notifier)
            stack.callback(daemon.close)
            server = Server(Path(configuration.daemon.socket), configuration.daemon.group, daemon.requests.answer)
            stack.callback(server.close)
            exporter = None
            if configuration.daemon.metrics is not None:
                exporter = Exporter(configuration.daemon.metrics, lambda: daemon.published.status)
                stack.callback(exporter.close)
            _give_up_privileges()
            server.start()  # threads keep what they were born with
            if exporter is not None:
                exporter.start()
            log(Priority.INFO, f"serving {args.config} at {server.path}")
            daemon.run()
            log(Priority.INFO, "ended")
        return 0


def _give_up_privileges() -> None:
    try:
        keep_only(frozenset(number for number, _ in KEPT.values()))
    except OSError as error:
        raise PagepulseError("privileges that are not needed cannot be given up", why=error.strerror or str(error),
                             hint="run it as root, with CAP_SETPCAP") from None


COMMAND = Serve()
