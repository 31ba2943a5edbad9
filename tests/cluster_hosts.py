"""Hosts of a network on one machine: each has network, processes, name, /tmp and /run of its own, and may lose power.

A host is a set of Linux namespaces, so root is needed. Memory, processors and files outside those folders are shared.
"""

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

BRIDGE = "eudsbr"
SUBNET = "10.77.0"
OWN_FOLDERS = ("/tmp", "/run", "/dev/shm", "/var/log", "/var/spool", "/var/lib/glusterd")
DEADLINE_SECONDS = 60

Words = Sequence[str | Path]


class Host:
    """A host that starts with its object; `kill` is the power cord, `cut` and `mend` are the network's."""

    def __init__(self, name: str, number: int, hosts_file: Path) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self._hosts_file = hosts_file
        self._link = f"veth-{name}"
        self.start()

    def start(self) -> None:
        """Plug it in, and switch it on."""
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", self._link, "master", BRIDGE, "up")
        run("ip", "-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            run("ip", "-n", self.name, "link", "set", device, "up")
        setup = [
            f"hostname {self.name}",
            *(f"mount -t tmpfs tmpfs {folder}" for folder in OWN_FOLDERS),
            f"mount --bind {shlex.quote(str(self._hosts_file))} /etc/hosts",
            "touch /run/ready",
            # The shell reaps what its children leave behind, as the first process of a host must.
            "while sleep 3600; do :; done",
        ]
        namespaces = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._parent = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *namespaces, "sh", "-ec", "; ".join(setup)],
        )
        wait_until(lambda: bool(self._children()), f"{self.name} starts")
        self._init = self._children()[0]
        wait_until(Path(f"/proc/{self._init.pid}/root/run/ready").exists, f"{self.name} is set up")

    def kill(self) -> None:
        """Pull the power cord: every process on it is gone at once, and it leaves the network; nothing if it has."""
        if self._parent.poll() is not None:
            return
        # The first process of the host dies with it, and all others with the first.
        self._parent.kill()
        self._parent.wait()
        wait_until(lambda: not self._init.is_running(), f"{self.name} is gone")
        # The device goes with the namespace, which goes a moment after the last process in it.
        with suppress(subprocess.CalledProcessError):
            run("ip", "link", "delete", self._link)
        run("ip", "netns", "delete", self.name)

    def cut(self) -> None:
        """Pull the network cable; processes go on."""
        run("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        """Put the network cable back."""
        run("ip", "link", "set", self._link, "up")

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run a command on it to its end, and return what it printed.

        Raises:
            CalledProcessError: it failed.
        """
        return run(*self.words(command), env=env)

    def popen(self, *command: str | Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a command on it; what it prints, errors too, is one pipe."""
        return subprocess.Popen(
            self.words(command), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def words(self, command: Words) -> list[str]:
        """Return the command that runs `command` on it."""
        enter = ("nsenter", "--target", self._init.pid, "--net", "--mount", "--uts", "--ipc", "--pid", "--")
        return [str(word) for word in (*enter, *command)]

    def processes(self, mark: str) -> list[psutil.Process]:
        """Return its processes whose command line holds `mark`."""
        here = _network(self._init)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if mark in " ".join(process.cmdline()) and _network(process) == here:
                    found.append(process)
        return found

    def _children(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self._parent.pid).children()
        return children


def start_network(hosts: list[Host], numbers: Mapping[str, int], hosts_file: Path) -> None:
    """Start a bridge, which this machine is on as number 1, and add hosts of these names and numbers to `hosts`."""
    lines = ["127.0.0.1 localhost", *(f"{SUBNET}.{number} {name}" for name, number in numbers.items())]
    hosts_file.write_text("\n".join(lines) + "\n")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for name, number in numbers.items():
        hosts.append(Host(name, number, hosts_file))


def stop_network(hosts: Sequence[Host]) -> None:
    """Remove the hosts and the bridge."""
    for host in hosts:
        with suppress(subprocess.CalledProcessError, TimeoutError):
            host.kill()
    run("ip", "link", "delete", BRIDGE)


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        CalledProcessError: it failed; a note holds what it said.
    """
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    try:
        done.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note(f"{done.stdout}{done.stderr}")
        raise
    return done.stdout


def succeeds(*command: str | Path) -> bool:
    """Tell whether a command does; what it prints is dropped."""
    try:
        run(*command)
    except subprocess.CalledProcessError:
        return False
    return True


def wait_until(true: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for something to become true.

    Raises:
        TimeoutError: it has not, after so many seconds.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(0.05)


def _network(process: psutil.Process) -> str:
    return str(Path(f"/proc/{process.pid}/ns/net").readlink())
