"""Score on several hosts, take power and network away from them, and compare every byte with a run on one.

    apt-get install iproute2 glusterfs-server slurmctld slurmd slurm-client
    python tests/cluster.py                 # as root
    python tests/cluster.py --only Ray

The hosts are Linux namespaces on one machine: a store that serves GlusterFS, a head, and two nodes. Ray, Slurm and the
file system are real; what crosses between hosts goes over their network. The exit code is 1 if anything is not as it
should be.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster_hosts import Host, start_network, stop_network, wait_until
from cluster_services import RAY_SETTINGS, Ray, SharedFolder, Slurm
from crash import Trial

PYTHON = Path(sys.executable)
LONGEST_SECONDS = 600
BY_RAY = ("--ray", "--ray-address", "auto", "--workers", "2")
TOOLS = ("ip", "nsenter", "glusterd", "gluster", "munged", "slurmctld", "slurmd", "sbatch")


class Cluster:
    """A store, a head and two nodes, on which a trial's runs are made in the folder that they share."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        hosts: list[Host] = []
        stack.callback(stop_network, hosts)
        start_network(hosts, {"store": 2, "head": 3, "node1": 4, "node2": 5}, folder / "hosts")
        self.store, self.head, *self.nodes = hosts
        self.shared = SharedFolder(self.store, folder / "brick", folder / "shared")
        stack.callback(self.shared.unmount)
        for host in (self.head, *self.nodes):
            self.shared.mount_on(host)
        self.trial = Trial(self.shared.path, "clusters", mounts=False)
        self.trial.run_in_peace()

    def score(self, host: Host, run_dir: Path, *options: str) -> "subprocess.Popen[str]":
        """Start the trial's run on a host."""
        return host.popen(*self.trial.command(run_dir, options), env={**self.trial.environment, **RAY_SETTINGS})

    def wait_for_work(self, run_dir: Path, process: "subprocess.Popen[str]") -> None:
        """Wait until a third of the run is done."""
        goal = self.trial.steps * self.trial.n_shards // 3
        wait_until(lambda: self.trial.done(run_dir) >= goal or process.poll() is not None, "work", LONGEST_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"the run ended before it was a third done: {process.communicate()[0]}")

    def restart(self, host: Host) -> None:
        """Switch a host on again, with the folder that all share."""
        host.start()
        self.shared.mount_on(host)


def ended(process: "subprocess.Popen[str]", exit_code: int = 0, says: str = "") -> list[str]:
    """Return what is wrong with how a command ends."""
    try:
        said, _ = process.communicate(timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"it had not ended after {LONGEST_SECONDS} seconds"]
    if process.returncode != exit_code or says not in said or "Traceback" in said:
        return [f"it ended with {process.returncode}, not {exit_code}, and said: {said.strip()[-2000:]}"]
    return []


@contextmanager
def ray_on(cluster: Cluster) -> Iterator[Ray]:
    """Start Ray on the head and the nodes, and stop it."""
    ray = Ray(cluster.head, PYTHON)
    hosts = (cluster.head, *cluster.nodes)
    try:
        for host in hosts:
            ray.start_on(host)
        ray.wait_for_nodes(len(cluster.nodes))
        yield ray
    finally:
        for host in hosts:
            ray.stop_on(host)


@contextmanager
def slurm_on(cluster: Cluster) -> Iterator[Slurm]:
    """Start Slurm on the head and the nodes, and stop it."""
    slurm = Slurm(cluster.head, cluster.nodes, cluster.shared.path)
    hosts = (cluster.head, *cluster.nodes)
    try:
        for host in hosts:
            slurm.start_on(host)
        slurm.wait_for_nodes()
        yield slurm
    finally:
        for host in hosts:
            for daemon in ("slurmctld", "slurmd", "munged"):
                for process in host.processes(daemon):
                    process.kill()


def ray_in_peace(cluster: Cluster, run_dir: Path) -> list[str]:
    """Actors on both nodes."""
    with ray_on(cluster):
        process = cluster.score(cluster.head, run_dir, *BY_RAY)
        wait_until(
            lambda: all(node.processes("ray::MapWorker") for node in cluster.nodes) or process.poll() is not None,
            "actors on both nodes",
            LONGEST_SECONDS,
        )
        took_part = process.poll() is None
        return [*ended(process), *([] if took_part else ["not both nodes had an actor"])]


def begin_on_ray(cluster: Cluster, run_dir: Path) -> "subprocess.Popen[str]":
    """Start the run, and return it when a third is done and the second node has an actor."""
    process = cluster.score(cluster.head, run_dir, *BY_RAY)
    cluster.wait_for_work(run_dir, process)
    if not cluster.nodes[1].processes("ray::MapWorker"):
        raise RuntimeError("node2 had no actor")
    return process


def ray_node_loses_power(cluster: Cluster, run_dir: Path) -> list[str]:
    """Its tasks are done on the other node, and the run ends by itself."""
    with ray_on(cluster) as ray:
        process = begin_on_ray(cluster, run_dir)
        cluster.nodes[1].kill()
        try:
            return ended(process)
        finally:
            cluster.restart(cluster.nodes[1])
            ray.start_on(cluster.nodes[1])


def ray_node_loses_network(cluster: Cluster, run_dir: Path) -> list[str]:
    """The run ends without the node; what that writes when it is back, the same command removes."""
    with ray_on(cluster):
        process = begin_on_ray(cluster, run_dir)
        cluster.nodes[1].cut()
        try:
            faults = ended(process)
        finally:
            cluster.nodes[1].mend()
        time.sleep(15)
        return [*faults, *ended(cluster.score(cluster.head, run_dir, *BY_RAY))]


def ray_head_loses_power(cluster: Cluster, run_dir: Path) -> list[str]:
    """The driver and all that Ray knows are gone; the same command on another Ray resumes."""
    with ray_on(cluster):
        process = cluster.score(cluster.head, run_dir, *BY_RAY)
        cluster.wait_for_work(run_dir, process)
        cluster.head.kill()
        process.wait()
        cluster.restart(cluster.head)
    with ray_on(cluster):
        return ended(cluster.score(cluster.head, run_dir, *BY_RAY))


def slurm_in_peace(cluster: Cluster, run_dir: Path) -> list[str]:
    """Three tasks of an array on two nodes."""
    with slurm_on(cluster) as slurm:
        return ended(submit(cluster, slurm, run_dir))


def slurm_node_loses_power(cluster: Cluster, run_dir: Path) -> list[str]:
    """Slurm requeues the task of a node that is gone."""
    with slurm_on(cluster) as slurm:
        process = submit(cluster, slurm, run_dir)
        cluster.wait_for_work(run_dir, process)
        if "node2" not in slurm.command("squeue", "-h", "-t", "R", "-o", "%N"):
            return ["node2 had no task"]
        cluster.nodes[1].kill()
        # Longer than Slurm waits for a node that does not answer.
        time.sleep(20)
        cluster.restart(cluster.nodes[1])
        slurm.start_on(cluster.nodes[1])
        return ended(process)


def slurm_task_is_preempted(cluster: Cluster, run_dir: Path) -> list[str]:
    """A task is stopped, put back into the queue, and resumes."""
    with slurm_on(cluster) as slurm:
        process = submit(cluster, slurm, run_dir)
        cluster.wait_for_work(run_dir, process)
        slurm.command("scontrol", "requeue", slurm.command("squeue", "-h", "-r", "-t", "R", "-o", "%A").split()[0])
        return ended(process)


def submit(cluster: Cluster, slurm: Slurm, run_dir: Path) -> "subprocess.Popen[str]":
    """Submit the trial's run as an array of three tasks."""
    log = cluster.shared.path / f"{run_dir.name}.log"
    return slurm.submit(
        "0-2", cluster.trial.command(run_dir, ("--split", "slurm")), log, dict(cluster.trial.environment)
    )


def two_hosts_one_directory(cluster: Cluster, run_dir: Path) -> list[str]:
    """The second command is refused, and the first goes on."""
    first = cluster.score(cluster.nodes[0], run_dir)
    cluster.wait_for_work(run_dir, first)
    second = cluster.score(cluster.nodes[1], run_dir)
    return [*ended(second, 2, "another process is scoring"), *ended(first)]


def store_fails(cluster: Cluster, run_dir: Path) -> list[str]:
    """The run stops with the code of a machine that failed, and the same command resumes."""
    process = cluster.score(cluster.nodes[0], run_dir)
    cluster.wait_for_work(run_dir, process)
    cluster.shared.stop_serving()
    faults = ended(process, os.EX_TEMPFAIL, "the file system or the network failed")
    cluster.shared.serve_again(cluster.nodes[0])
    return [*faults, *ended(cluster.score(cluster.nodes[0], run_dir))]


TRIALS: dict[str, Callable[[Cluster, Path], list[str]]] = {
    "two hosts, one directory": two_hosts_one_directory,
    "the store fails": store_fails,
    "Ray": ray_in_peace,
    "Ray, a node loses power": ray_node_loses_power,
    "Ray, a node loses its network": ray_node_loses_network,
    "Ray, the head loses power": ray_head_loses_power,
    "Slurm": slurm_in_peace,
    "Slurm, a node loses power": slurm_node_loses_power,
    "Slurm, a task is preempted": slurm_task_is_preempted,
}


def main() -> None:
    """Make the trials, say of each what was wrong, and exit with 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only trials whose name holds one of these")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise SystemExit(f"this needs root, and the commands {', '.join(TOOLS)}; not found: {missing or 'none'}")
    names = [name for name in TRIALS if any(word in name for word in arguments.only or [""])]
    wrong = []
    # Not under /tmp, which every host has for itself.
    with tempfile.TemporaryDirectory(prefix="euds-cluster-", dir="/var/tmp") as folder, ExitStack() as stack:
        cluster = Cluster(Path(folder), stack)
        print(f"{cluster.trial.n_rows} rows in {cluster.trial.n_shards} shards, in {folder}", flush=True)
        for number, name in enumerate(names, start=1):
            start = time.perf_counter()
            faults = attempt(cluster, name, number)
            wrong += [f"{name}: {fault}" for fault in faults]
            outcome = "; ".join(faults) or "the same bytes"
            print(f"{number}/{len(names)} {name}: {outcome} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{len(names)} trials, {len(wrong)} faults")
    sys.exit(1 if wrong else 0)


def attempt(cluster: Cluster, name: str, number: int) -> list[str]:
    """Make a trial and compare its run with the one on one host."""
    run_dir = cluster.shared.path / f"run-{number}"
    faults: list[str] = []
    try:
        faults += TRIALS[name](cluster, run_dir)
        faults += cluster.trial.differences(run_dir)
    except Exception as error:
        faults.append("".join(traceback.format_exception_only(error)).strip())
    return faults


if __name__ == "__main__":
    main()
