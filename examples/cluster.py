"""What examples/cluster.sh runs: starts every part as a process on loopback, breaks two of them, checks the films.

MongoDB is nx-27017 here, a server that speaks its protocol; S3 is moto's server. Both are packages for tests.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

FILMS = 20
BIN = Path(sys.executable).parent
PROMPTS = (
    "a red circle moving left on a blue background",
    "a large yellow star spinning on a black background",
    "a green square bouncing on a white background",
    "two blue triangles moving right on a gray background",
)


class Cluster:
    """Every process, in directories below `place`."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.place, self._stack = place, stack
        self.env = {
            **os.environ,
            "HOME": str(place),  # Ray writes below it
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """A process in a group of its own, whose output is in a file of this name."""
        with open(self.place / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                env={**self.env, **variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._stack.callback(killed, process)
        return process

    def log(self, name: str) -> str:
        """What a process wrote so far."""
        return (self.place / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def store(self) -> str:
        """Starts the store and returns its URL."""
        port = free_port()
        data = self.place / "store"
        files = [
            "--data-dir",
            str(data),
            "--pid-file",
            str(self.place / "pid"),
            "--log-file",
            str(self.place / "nx.log"),
        ]
        self.start("store", "nx-27017", "--host", "127.0.0.1", "-p", str(port), *files)
        until(lambda: answers(port), "the store")
        return f"mongodb://127.0.0.1:{port}/flickbook"

    def storage(self) -> str:
        """Starts the storage and returns the URL of a bucket."""
        port = free_port()
        self.start("storage", "moto_server", "-H", "127.0.0.1", "-p", str(port))
        until(lambda: answers(port), "the storage")
        self.env |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ.update(self.env)
        import fsspec

        fsspec.filesystem("s3").mkdir("films")
        return "s3://films/flickbook"

    def service(self, name: str, address: str) -> tuple[subprocess.Popen[bytes], str]:
        """Starts a service and returns it with its URL."""
        words = ["serve", "--port", "0", "--cluster", address, "--workers", "2"]
        process = self.start(name, "flickbook", *words, FLICKBOOK_DATA_DIR=str(self.place / name))
        found = until(lambda: re.search(r"serving at (http://\S+) ", self.log(name)), name)
        return process, found[1]


@contextmanager
def ray_cluster(env: dict[str, str]) -> Iterator[Any]:
    """A head without workers, and two machines that have one GPU each in name."""
    os.environ.update(env)
    from ray.cluster_utils import Cluster as RayCluster

    how = {"object_store_memory": 100 << 20}
    found = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **how})
    try:
        found.add_node(num_cpus=1, num_gpus=1, **how)
        found.add_node(num_cpus=1, num_gpus=1, **how)
        yield found
    finally:
        found.shutdown()


def main() -> int:
    """Runs the example; the exit code is the number of films that are not identical."""
    place = Path(sys.argv[1]).resolve()
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = Cluster(place, stack)
        cluster.env |= {"FLICKBOOK_STORE": cluster.store(), "FLICKBOOK_ARTIFACTS": cluster.storage()}
        machines = stack.enter_context(ray_cluster(cluster.env))
        first, url = cluster.service("service-1", machines.address)
        _, other = cluster.service("service-2", machines.address)
        say(f"two services, {url} and {other}, in front of one queue")

        from openai import OpenAI

        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of OpenAI's own service

        client, second = OpenAI(base_url=f"{url}/v1", api_key="none"), OpenAI(base_url=f"{other}/v1", api_key="none")
        made = [
            client.videos.create(prompt=PROMPTS[number % len(PROMPTS)], extra_body={"seed": number})
            for number in range(FILMS)
        ]
        say(f"{len(made)} films are queued through {url}")

        def done() -> int:
            return sum(second.videos.retrieve(video.id).status == "completed" for video in made)

        until(lambda: done() >= 3, "the first films")
        machines.remove_node(machines.list_all_nodes()[1], allow_graceful=False)
        say(f"{done()} films are done; a machine was killed")
        until(lambda: done() >= 8, "more films")
        killed(first)
        say(f"{done()} films are done; the service that took them was killed")
        until(lambda: done() == FILMS, "all films")
        say(f"{done()} films are done, says {other}")
        wrong = 0
        for number, video in enumerate(made):
            film = place / f"{number:02d}.mp4"
            second.videos.download_content(video.id).write_to_file(film)
            code = subprocess.run([BIN / "flickbook", "reproduce", film], capture_output=True).returncode
            wrong += code != 0
            say(f"{film.name}: {'identical' if code == 0 else f'not identical, exit code {code}'}")
        say(f"{FILMS - wrong} of {FILMS} films are identical")
    return wrong


def say(text: str) -> None:
    """One line of the report."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def until(event: Callable[[], Any], what: str, patience: float = 900.0) -> Any:
    """The first true value of `event`. Raises TimeoutError."""
    end = time.monotonic() + patience
    while not (found := event()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {patience:g} s")
        time.sleep(0.3)
    return found


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def killed(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all that it started, as a power cut would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
