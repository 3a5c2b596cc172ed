"""What an embedded cluster changes on the machine outside its namespaces, and how it is undone.

Little: one wire (a veth pair) with two routes, address translation for pods that reach out, a few
kernel settings that kubelet changes for the whole machine, empty folders to mount over, and a
cgroup. What cannot be derived afterwards is written to a journal before it is done.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from sagepool_cluster.commands import run, succeeds
from sagepool_cluster.config import ClusterConfig
from sagepool_cluster.errors import RangeTaken
from sagepool_cluster.processes import PROC, running_processes
from sagepool_cluster.waiting import wait_until

SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""The first we set ourselves; kubelet sets the others."""

PRIVATE_FOLDERS = (
    Path("/run/containerd"),
    Path("/var/lib/cni"),
    Path("/var/lib/kubelet"),
    Path("/var/log/containers"),
    Path("/var/log/pods"),
)
"""Paths fixed in containerd, its plugins and kubelet; the cluster sees its own in their place."""

_SYS = Path("/proc/sys")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Journal:
    """What was there before the cluster."""

    boot: str
    """The machine's start that it was true of: the next one sets the kernel up afresh."""
    sysctls: dict[str, str]
    made_folders: tuple[str, ...]


class Machine:
    """Changes the machine for one cluster, and changes it back."""

    def __init__(self, config: ClusterConfig) -> None:
        """Act for this cluster."""
        self._config = config
        self._journal_path = config.state / "machine.json"

    def check_ranges(self) -> None:
        """Raise RangeTaken when one of the cluster's ranges is routed or assigned already."""
        taken = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "main"]))
        config = self._config
        for conflict in find_conflicts(config, taken):
            raise RangeTaken(
                f"{conflict}: another cluster or a VPN? Choose other ranges with "
                "SAGEPOOL_CLUSTER_POD_RANGE, _SERVICE_RANGE and _LINK_RANGE"
            )

    def prepare(self) -> None:
        """Record what is to change, then make the folders and the cgroup."""
        folders = tuple(str(folder) for folder in PRIVATE_FOLDERS if not folder.exists())
        sysctls = {
            name: (_SYS / name).read_text().strip() for name in SYSCTLS if (_SYS / name).exists()
        }
        journal = {"boot": _read_boot(), "sysctls": sysctls, "made_folders": folders}
        self._journal_path.write_text(json.dumps(journal, indent=1))
        for folder in PRIVATE_FOLDERS:
            folder.mkdir(parents=True, exist_ok=True)
        for folder in self._cgroup_folders():
            _delegate_controllers(folder.parent)
            folder.mkdir(exist_ok=True)

    def connect(self, holder_pid: int) -> None:
        """Lay the wire to the network namespace of that process, with routes and translation."""
        config = self._config
        # fmt: off
        run(["ip", "link", "add", config.interface, "type", "veth",
             "peer", "name", "eth0", "netns", str(holder_pid)])
        run(["ip", "address", "add", f"{config.host_address}/{config.link_range.prefixlen}",
             "dev", config.interface])
        run(["ip", "link", "set", config.interface, "up"])
        # fmt: on
        for network in (config.pod_range, config.service_range):
            run(["ip", "route", "add", str(network), "via", str(config.node_address)])
        for table, chain, rule in self._rules():
            run(["iptables", "--wait", "--table", table, "--insert", chain, *rule])
        (_SYS / "net/ipv4/ip_forward").write_text("1")

    def restore(self) -> None:
        """Undo `connect` and `prepare`, or what a crash left of them; again is no harm."""
        wait_until(self._interface_is_gone, f"removing {self._config.interface}", limit_s=10)
        for table, chain, rule in self._rules():
            while succeeds(["iptables", "--wait", "--table", table, "--delete", chain, *rule]):
                pass
        wait_until(self._cgroups_are_gone, "removing the cluster's cgroup", limit_s=10)
        journal = self._read_journal()
        if journal.boot == _read_boot():
            for name, value in journal.sysctls.items():
                (_SYS / name).write_text(value)
        for made in journal.made_folders:
            if not is_mounted_anywhere(made):
                with suppress(OSError):  # somebody else uses it by now
                    Path(made).rmdir()
        self._journal_path.unlink(missing_ok=True)

    def _read_journal(self) -> Journal:
        try:
            content = json.loads(self._journal_path.read_text())
            sysctls = dict(content["sysctls"])
            return Journal(content["boot"], sysctls, tuple(content["made_folders"]))
        except (OSError, ValueError, KeyError):
            # None yet, or cut short by a crash while it was written: before any change.
            return Journal("", {}, ())

    def _rules(self) -> list[tuple[str, str, list[str]]]:
        config = self._config
        comment = ["-m", "comment", "--comment", f"sagepool cluster {config.name}"]
        outwards = ["--source", str(config.link_range), "!", "--out-interface", config.interface]
        return [
            ("nat", "POSTROUTING", [*outwards, *comment, "--jump", "MASQUERADE"]),
            ("filter", "FORWARD", ["-i", config.interface, *comment, "--jump", "ACCEPT"]),
            ("filter", "FORWARD", ["-o", config.interface, *comment, "--jump", "ACCEPT"]),
        ]

    def _interface_is_gone(self) -> bool:
        # The kernel removes it too, a moment after the namespace at its other end.
        succeeds(["ip", "link", "delete", self._config.interface])
        return not succeeds(["ip", "link", "show", "dev", self._config.interface])

    def _cgroup_folders(self) -> list[Path]:
        if (_CGROUPS / "cgroup.controllers").exists():
            return [_CGROUPS / self._config.name]
        hierarchies = (one for one in _CGROUPS.iterdir() if not one.is_symlink())
        return [one / self._config.name for one in hierarchies if (one / "cgroup.procs").exists()]

    def _cgroups_are_gone(self) -> bool:
        for folder in self._cgroup_folders():
            below = sorted(folder.rglob("*/"), key=lambda one: len(one.parts), reverse=True)
            for one in (*below, folder):
                with suppress(OSError):  # busy until its last process is collected
                    one.rmdir()
        return not any(folder.exists() for folder in self._cgroup_folders())


def find_conflicts(config: ClusterConfig, routes: list[dict[str, str]]) -> list[str]:
    """Return a sentence for each route (as `ip -json route` has them) that crosses our ranges."""
    conflicts = []
    for route in routes:
        if route["dst"] == "default" or route.get("dev") == config.interface:
            continue
        used = IPv4Network(route["dst"], strict=False)
        for ours in (config.pod_range, config.service_range, config.link_range):
            if used.overlaps(ours):
                conflicts.append(
                    f"the cluster's range {ours} is in use: {used} is routed to "
                    f"{route.get('dev') or route.get('gateway', 'nowhere')}"
                )
    return conflicts


def is_mounted_anywhere(folder: str) -> bool:
    """Whether the folder is a mount point in any process's namespace.

    To remove a folder takes away what other namespaces have mounted there: another cluster's.
    """
    for process in running_processes():
        with suppress(OSError):  # it ended meanwhile
            if f" {folder} " in (PROC / str(process.pid) / "mounts").read_text():
                return True
    return False


def _read_boot() -> str:
    return (_SYS / "kernel/random/boot_id").read_text().strip()


def _delegate_controllers(root: Path) -> None:
    """Let the cgroup's children have its controllers; only cgroup v2 has to be told."""
    available = root / "cgroup.controllers"
    if available.exists():
        for controller in available.read_text().split():
            with suppress(OSError):  # one that cannot be delegated is one that kubelet can spare
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
