"""What a cluster runs on: GlusterFS as the file system that all hosts share, Slurm, and Ray."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cluster_hosts import Host, run, succeeds, wait_until

PORT = 6379
RAY_SETTINGS = {
    # A host that does not answer is given up after seconds, not minutes.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's workers would give way to whatever else this machine does.
    "RAY_worker_niceness": "0",
    # With a token in the home folder a head would ask for it, and nodes would not bring it.
    "RAY_AUTH_MODE": "disabled",
}
SLURM = """
ClusterName=euds
SlurmctldHost={head.name}({head.address})
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurm-control
SlurmdSpoolDir=/var/spool/slurm-node
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=10
ReturnToService=2
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class SharedFolder:
    """A GlusterFS volume that a host serves and others, and this machine, mount at one path."""

    def __init__(self, store: Host, brick: Path, path: Path) -> None:
        self._store, self._brick, self.path = store, brick, path
        brick.mkdir()
        path.mkdir()
        store.run("mkdir", "-p", "/run/gluster", "/var/log/glusterfs")
        store.run("glusterd")
        volume = ("gluster", "--mode=script", "volume")
        store.run(*volume, "create", "euds", f"{store.address}:{brick}", "force")
        # A host that is gone is given up after so many seconds.
        store.run(*volume, "set", "euds", "network.ping-timeout", "10")
        store.run(*volume, "start", "euds")
        run("mkdir", "-p", "/var/log/glusterfs")
        run(*self._mount())

    def mount_on(self, host: Host) -> None:
        """Mount it on a host that has just started."""
        # A host that was restarted has this machine's mounts, and with them its client.
        host.run("sh", "-c", 'if mountpoint -q "$0"; then umount --lazy "$0"; fi', self.path)
        host.run("mkdir", "-p", "/run/gluster", "/var/log/glusterfs")
        host.run(*self._mount())

    def stop_serving(self) -> None:
        """Kill the process that serves it; who reads or writes gets errors."""
        for process in self._store.processes("glusterfsd"):
            process.kill()

    def serve_again(self, *hosts: Host) -> None:
        """Start that process again, and wait until these hosts, and this machine, have found it."""
        self._store.run("gluster", "--mode=script", "volume", "start", "euds", "force")
        wait_until(lambda: succeeds("ls", self.path), "the store is back")
        for host in hosts:
            wait_until(partial(succeeds, *host.words(("ls", self.path))), f"the store is back on {host.name}")

    def unmount(self) -> None:
        """Unmount it here."""
        run("umount", "--lazy", self.path)

    def _mount(self) -> tuple[str | Path, ...]:
        return ("mount", "-t", "glusterfs", f"{self._store.address}:/euds", self.path)


class Slurm:
    """A Slurm of one controller and nodes of one processor each."""

    def __init__(self, head: Host, nodes: Sequence[Host], folder: Path) -> None:
        self._head, self._nodes = head, nodes
        self._file = folder / "slurm.conf"
        lines = (f"NodeName={node.name} NodeAddr={node.address} CPUs=1 State=UNKNOWN" for node in nodes)
        # Any version will do, as no plugin uses it, but none is not allowed.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self._file.write_text(SLURM.format(head=head, nodes="\n".join(lines)))
        self.environment = {**os.environ, "SLURM_CONF": str(self._file)}

    def start_on(self, host: Host) -> None:
        """Start its daemons on a host."""
        host.run("mkdir", "-p", "/run/munge", "/var/log/munge", "/var/spool/slurm-control", "/var/spool/slurm-node")
        host.run("munged", "--force")
        if host is self._head:
            host.run("slurmctld", "-f", self._file)
        else:
            host.run("slurmd", "-N", host.name, "-f", self._file)

    def wait_for_nodes(self) -> None:
        """Wait until every node takes jobs."""
        wait_until(
            lambda: self.command("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(self._nodes), "Slurm"
        )

    def command(self, *command: str) -> str:
        """Run one of Slurm's commands on the head."""
        return self._head.run(*command, env=self.environment)

    def submit(self, array: str, command: Sequence[str], log: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
        """Submit an array of tasks that may be repeated; the process ends with it, and has its exit code."""
        return self._head.popen(
            *("sbatch", "--wait", "--requeue", f"--array={array}", f"--output={log}", "--open-mode=append"),
            *("--wrap", f"srun {shlex.join(command)}"),
            env={**self.environment, **env},
        )


class Ray:
    """A Ray cluster: a head without actors, and nodes of one processor each."""

    def __init__(self, head: Host, python: Path) -> None:
        self._head, self._python = head, python

    def start_on(self, host: Host) -> None:
        """Start Ray on a host."""
        where: tuple[str, ...] = ("--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        if host is not self._head:
            where = (f"--address={self._head.address}:{PORT}", "--num-cpus=1")
        host.run(
            self._python.parent / "ray",
            *("start", *where, f"--node-ip-address={host.address}", "--object-store-memory=100000000", "--num-gpus=0"),
            env={**os.environ, **RAY_SETTINGS},
        )

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes are alive."""
        script = (
            "import ray, sys; ray.init(address='auto', logging_level='ERROR', log_to_driver=False); "
            "print('alive', sum(node['Alive'] for node in ray.nodes()))"
        )
        wait_until(lambda: f"alive {count + 1}" in self._head.run(self._python, "-c", script), "Ray")

    def stop_on(self, host: Host) -> None:
        """Stop Ray on a host."""
        host.run(self._python.parent / "ray", "stop", "--force")
