# SPDX-License-Identifier: GPL-2.0-only
"""Config: the directory that tells a daemon what to watch and what to do. TOML, strict, and nobody else may write it.

`pagepulse.toml` first, then `conf.d/*.toml` by name; a key that is said again counts as said last. Scheme files are
named relative to the directory.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pagepulse.apply import not_applied
from pagepulse.capture import NEVER, Rotation
from pagepulse.capture.parts import is_recording
from pagepulse.fleet import Selection
from pagepulse.monitor import MonitorOptions
from pagepulse.policy.fields import Interval, Misplaced, Share, Size, did_you_mean, found
from pagepulse.policy.fields import name as scheme_name
from pagepulse.policy.fields import path as absolute_path
from pagepulse.policy.load import load_document, read_trusted, why_untrusted
from pagepulse.policy.objects import SchemeObject
from pagepulse.policy.parse import fault_words, refusal
from pagepulse.policy.scheme import Scheme
from pagepulse.service.places import SOCKET
from pagepulse.units import format_share, format_size, parse_time_ns

MAIN, DROP_INS = "pagepulse.toml", "conf.d"

_MOST_TARGETS, _MOST_BUDGET = 64, 1.0
_MIB = 1 << 20
_LONGEST_SOCKET = 107  # struct sockaddr_un, with the zero at its end
_LARGEST_USER = (1 << 32) - 2


def _listen(value: object) -> str:
    """`127.0.0.1:9753` or `[::1]:9753`."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"expected an address and a port such as '127.0.0.1:9753', got {found(value)}")
    if host != "localhost":
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise ValueError(f"expected an address of numbers, or localhost, got {found(host)}") from None
    return f"{host}:{port}"


def _socket_path(value: object) -> str:
    """As long as the kernel takes it."""
    path = absolute_path(value)
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"expected a path of at most {_LONGEST_SOCKET} bytes, got {len(os.fsencode(path))}")
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ValueError(f"expected a new name or that of a socket, got {found(path)}, which is something else")
    return path


def _group(value: object) -> str:
    """A group of this machine."""
    name = _words(value)
    try:
        grp.getgrnam(name)
    except KeyError:
        raise ValueError(f"expected a group of this machine, got {found(name)}") from None
    return name


def _words(value: object) -> str:
    """A path, pattern or name that can be printed."""
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or not value.isprintable():
        raise ValueError(f"expected a string of printable characters, got {found(value)}")
    return value


Words = Annotated[str, BeforeValidator(_words)]
AbsolutePath = Annotated[str, BeforeValidator(absolute_path)]


class DaemonSettings(SchemeObject):
    """`[daemon]`: what is the same for all targets."""

    socket: Annotated[str, BeforeValidator(_socket_path)] = str(SOCKET)
    group: Annotated[str, BeforeValidator(_group)] | None = None
    """Members may ask, too; None: root alone."""
    metrics: Annotated[str, BeforeValidator(_listen)] | None = None
    """Where metrics are told; None: nowhere."""


class TargetSettings(SchemeObject):
    """`[targets.NAME]`: a selection of processes, and what to do to them."""

    cgroup: Words | None = None
    system: bool = False
    exe: Words | None = None
    user: Words | None = None
    min_rss_bytes: Size = Field(default=0, alias="min_rss")
    schemes: Words | None = None
    dry_run: bool = False
    budget: Share = MonitorOptions().budget
    recording: AbsolutePath | None = None
    rotate_size_bytes: Size = Field(default=64 * _MIB, alias="rotate_size")
    rotate_every_ns: Interval = Field(default=parse_time_ns("1d"), alias="rotate_every")
    keep: int = 14
    """So many old parts of the recording stay."""
    clear: Literal["cold", "refs", "auto"] = "auto"
    sample_ns: Interval = Field(default=MonitorOptions().sampling_ns, alias="sample")
    aggregate_ns: Interval = Field(default=MonitorOptions().aggregation_ns, alias="aggregate")
    max_regions: int = Field(default=MonitorOptions().max_regions, ge=10, le=100_000)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not (self.cgroup or self.system or self.exe or self.user):
            raise ValueError("expected cgroup, exe, user or system = true: which processes are meant")
        if self.cgroup and self.system:
            raise Misplaced("system", "expected cgroup or system, got both")
        if not 0 < self.budget <= _MOST_BUDGET:
            raise Misplaced("budget", "expected a share of one CPU above 0%, at most 100%")
        if not 0 < self.sample_ns <= self.aggregate_ns <= MonitorOptions().update_ns:
            raise Misplaced("sample", "expected sample above 0, at most aggregate, and that at most 1s")
        if self.dry_run and self.schemes is None:
            raise Misplaced("dry_run", "expected schemes: there is nothing to do, so nothing to try")
        if fault := self.rotation.fault:
            option, _, expected = fault.partition(" must be ")
            raise Misplaced(option.replace("-", "_"), f"expected {expected}")
        if self.user is not None and _user_id(self.user) is None:
            raise Misplaced("user", f"expected a user of this machine, got {found(self.user)}")
        return self

    @property
    def rotation(self) -> Rotation:
        """When a part of the recording ends."""
        return Rotation(self.rotate_size_bytes, self.rotate_every_ns, self.keep)


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """A target of the configuration, all of it checked. Equal plans need no change."""

    name: str
    selection: Selection
    options: MonitorOptions
    schemes: tuple[Scheme, ...] = ()
    dry_run: bool = False
    recording: Path | None = None
    rotation: Rotation = NEVER

    def watches_like(self, other: TargetPlan) -> bool:
        """Whether processes are watched in the same way: whoever they are, whatever is done to them, at any price."""
        return replace(self.options, budget=other.options.budget) == other.options


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a configuration directory says."""

    daemon: DaemonSettings
    targets: tuple[TargetPlan, ...]
    files: tuple[Path, ...] = field(default=(), compare=False)
    """All that were read: a change of one of them is a change of the configuration."""
    signature: tuple[object, ...] = field(default=(), compare=False)
    """Of what was read: taken before, so that no change after that is missed."""


def load_configuration(directory: Path, trusted: AbstractSet[int] | None = None) -> Configuration:
    """What the directory says.

    Args:
        directory: With `pagepulse.toml`.
        trusted: User ids that may own its files; None: as for a scheme file (`policy.load`).

    Raises:
        RefusedFile: A file is missing, malformed or not to be trusted; all faults of the first bad file.
    """
    _check_directory(directory, trusted)
    merged, files = _Merged(), _listed(directory)
    marks = _marks(files)
    for path in files:
        merged.take(path, _tables(path, trusted))
    faults = merged.faults()
    if faults:
        raise refusal(str(directory), faults)
    plans = []
    for name, table in merged.targets.items():
        settings, schemes = TargetSettings.model_validate(table), tuple[Scheme, ...]()
        if settings.schemes is not None:
            path = directory / settings.schemes
            files.append(path)
            marks |= _marks([path])
            schemes = load_applicable(path, trusted)
        plans.append(_plan(name, settings, schemes))
    if faults := _shared_recordings(plans):
        raise refusal(str(directory), faults)
    return Configuration(DaemonSettings.model_validate(merged.daemon), tuple(plans), tuple(files),
                         tuple(sorted(marks)))


def unwritable_recordings(configuration: Configuration) -> list[str]:
    """What would keep recordings from being begun now. A daemon goes on without, says so, and tries again."""
    faults = []
    for plan in configuration.targets:
        with suppress(PermissionError):  # who may not look cannot tell
            if plan.recording is not None and (why := _why_unwritable(plan.recording)):
                faults.append(f"targets.{plan.name}.recording: {plan.recording}: {why}")
    return faults


def _why_unwritable(path: Path) -> str:
    if not path.parent.is_dir():
        return "expected a directory that is there"
    if not os.path.lexists(path):
        return ""
    return "" if is_recording(path) else "expected a new name or that of a recording, got something else"


def _shared_recordings(plans: Sequence[TargetPlan]) -> list[str]:
    """Two recorders of one file would write into each other; links are followed."""
    owners: dict[str, str] = {}
    return [f"targets.{plan.name}.recording: expected a file of its own, got that of {owner}" for plan in plans
            if plan.recording is not None
            and (owner := owners.setdefault(os.path.realpath(plan.recording), plan.name)) != plan.name]


def load_applicable(path: Path, trusted: AbstractSet[int] | None = None) -> tuple[Scheme, ...]:
    """The schemes of a file, all of which can be applied here.

    Raises:
        RefusedFile: The file is not sound, or asks for what is not applied.
    """
    schemes = load_document(path, trusted).schemes
    faults = [f"{scheme.name}: expected nothing that is not applied yet, got {what}"
              for scheme in schemes for what in not_applied(scheme)]
    if faults:
        raise refusal(str(path), faults)
    return schemes


def signature(directory: Path, files: tuple[Path, ...]) -> tuple[object, ...]:
    """Changes whenever one of its files or of these does, or a file comes or goes; nothing is read."""
    return tuple(sorted(_marks([*_listed(directory), *files])))


def _marks(paths: Iterable[Path]) -> set[tuple[str, int, int, int, int]]:
    marks = set()
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            marks.add((str(path), status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))
    return marks


def in_words(plan: TargetPlan) -> str:
    """Which processes are watched, and at what cost: one sentence without a full stop."""
    chosen = plan.selection
    where = f"the control group {chosen.cgroup}" if chosen.cgroup is not None else "the system"
    parts = [f"processes of {where}"]
    if chosen.exe is not None:
        parts.append(f"that run {chosen.exe}")
    if chosen.user is not None:
        parts.append(f"of user id {chosen.user}")
    if chosen.min_rss_bytes:
        parts.append(f"with at least {format_size(chosen.min_rss_bytes)}")
    return f"{' '.join(parts)}, for {format_share(plan.options.budget)} of one CPU"


class _Merged:
    """Tables of several files as one, and which file said each of them last."""

    def __init__(self) -> None:
        self.daemon: dict[str, Any] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        self.origin: dict[str, str] = {}

    def take(self, path: Path, tables: Mapping[str, Any]) -> None:
        self.origin.setdefault("daemon", path.name)
        for name, table in tables.items():
            if name == "daemon":
                self.daemon |= table
                self.origin["daemon"] = path.name
            else:
                for target, content in table.items():
                    self.targets.setdefault(target, {}).update(content)
                    self.origin[f"targets.{target}"] = path.name

    def faults(self) -> list[str]:
        """Each with the file that said something of its table last."""
        places: dict[str, tuple[type[SchemeObject], dict[str, Any]]] = {
            "daemon": (DaemonSettings, self.daemon),
            **{f"targets.{name}": (TargetSettings, table) for name, table in self.targets.items()}}
        if len(self.targets) > _MOST_TARGETS:
            return [f"targets: expected at most {_MOST_TARGETS} in all files, got {len(self.targets)}"]
        return [f"{self.origin.get(place, MAIN)}: {fault}" for place, (model, table) in places.items()
                for fault in _faults_of(model, place, table)]


def _check_directory(directory: Path, trusted: AbstractSet[int] | None) -> None:
    """Whoever can write the directory can exchange its files.

    Raises:
        RefusedFile: It is not there, or somebody else could write it.
    """
    owners = {0, os.geteuid()} if trusted is None else trusted
    for place in (directory, directory / DROP_INS):
        try:
            status = place.stat()
        except OSError as error:
            if place == directory:
                raise refusal(str(place), [error.strerror or str(error)],
                              hint=f"a configuration is a directory with a file {MAIN}") from None
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise refusal(str(place), ["expected a directory, got a file"])
        doubt = why_untrusted(status, owners, private_group=False).replace(" file ", " directory ")
        if doubt:
            raise refusal(str(place), [f"{doubt}; what its files say will be done with root"],
                          hint="look into it; if you trust it, `chown root` it and `chmod go-w` it")


def _listed(directory: Path) -> list[Path]:
    """Not what begins with a dot: editors put their locks, links to nowhere, beside the file."""
    drop_ins = (directory / DROP_INS).glob("*.toml")
    return [directory / MAIN, *sorted(path for path in drop_ins if not path.name.startswith("."))]


def _tables(path: Path, trusted: AbstractSet[int] | None) -> dict[str, Any]:
    """The tables of one file, each a table of the right shape.

    Raises:
        RefusedFile: It cannot be trusted or read, or has tables of another shape.
    """
    try:
        content = tomllib.loads(read_trusted(path, trusted).decode())
    except UnicodeDecodeError as error:
        raise refusal(str(path), [f"expected UTF-8, got a byte that is none at offset {error.start}"]) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise refusal(str(path), [f"expected TOML: {error}"]) from None
    faults = [f"{found(name)}: unknown table; {did_you_mean(name, ('daemon', 'targets'))}"
              for name in content if name not in {"daemon", "targets"}]
    faults += [f"{name}: expected a table, got {found(table)}"
               for name, table in content.items() if not isinstance(table, dict)]
    if not faults:
        faults = _target_faults(content.get("targets", {}))
    if faults:
        raise refusal(str(path), faults)
    return content


def _target_faults(targets: Mapping[str, object]) -> list[str]:
    faults = []
    for name, table in targets.items():
        try:
            scheme_name(name)
        except ValueError as error:
            faults.append(f"targets: {error}")
        if not isinstance(table, dict):
            faults.append(f"targets.{name}: expected a table, got {found(table)}")
    return faults


def _faults_of(model: type[SchemeObject], place: str, table: Mapping[str, Any]) -> list[str]:
    try:
        model.model_validate(table)
    except ValidationError as error:
        texts = [fault_words(one, model) for one in error.errors(include_url=False)]
        return [f"{place}: {text}" if " " in text.partition(": ")[0] else f"{place}.{text}" for text in texts]
    return []


def _plan(name: str, settings: TargetSettings, schemes: tuple[Scheme, ...]) -> TargetPlan:
    selection = Selection(
        cgroup=None if settings.cgroup is None else Path(settings.cgroup), system=settings.system, exe=settings.exe,
        user=None if settings.user is None else _user_id(settings.user), min_rss_bytes=settings.min_rss_bytes)
    options = MonitorOptions(settings.sample_ns, settings.aggregate_ns, max_regions=settings.max_regions,
                             budget=settings.budget, clear=settings.clear)
    recording = None if settings.recording is None else Path(settings.recording)
    return TargetPlan(name, selection, options, schemes, settings.dry_run, recording, settings.rotation)


def _user_id(text: str) -> int | None:
    if text.isdecimal():
        return int(text) if len(text) <= 10 and int(text) <= _LARGEST_USER else None
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        return None
