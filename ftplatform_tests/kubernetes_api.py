"""A Kubernetes API server for tests: HTTP on loopback, real schemas, and containers that are processes of this machine.

It knows the requests that running a job takes. Jobs are validated as strictly as Kubernetes does; a container's command runs with the
container's environment and nothing else, so whatever the manifest does not say is not there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

TOKEN = "test-token"


@dataclass
class Cluster:
    """State of the cluster.

    Attributes:
        url: of the API.
        secrets: variables by secret.
        folder: for logs and scratch space of pods.
        jobs: job manifests by name, in order of arrival. deleted: names. processes: of the pods, by job.
        requests: method and path of every request.
    """

    url: str
    secrets: Mapping[str, Mapping[str, str]]
    folder: Path
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def start(self, job: dict[str, Any]) -> None:
        """Runs the pod of a job."""
        name = job["metadata"]["name"]
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        scratch = self.folder / name
        scratch.mkdir()
        variables = {"PATH": os.environ["PATH"], "TMPDIR": str(scratch), "NO_PROXY": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1"}
        for source in container.get("envFrom", ()):
            variables |= self.secrets[source["secretRef"]["name"]]
        variables |= {entry["name"]: entry["value"] for entry in container["env"]}
        command = [sys.executable if part == "python" else part for part in container["command"]]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=variables, cwd=scratch, start_new_session=True
            )
        self.jobs[name] = job
        deadline = time.time() + job["spec"]["activeDeadlineSeconds"]
        threading.Thread(target=self._watch, args=(name, deadline), daemon=True).start()

    def _watch(self, name: str, deadline: float) -> None:
        while self.processes[name].poll() is None:
            if time.time() > deadline:
                self.kill(name)
                self.jobs[name]["_reason"] = "DeadlineExceeded"
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Ends the pod of a job as Kubernetes does when patience is over."""
        process = self.processes[name]
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def status(self, name: str) -> dict[str, Any]:
        """The job's status."""
        code = self.processes[name].poll()
        if code is None:
            return {"active": 1}
        kind = "Complete" if code == 0 else "Failed"
        condition = {
            "type": kind,
            "status": "True",
            "reason": self.jobs[name].get("_reason", "BackoffLimitExceeded" if code else ""),
        }
        return {"conditions": [condition]}


@contextmanager
def kubernetes_api(folder: Path, secrets: Mapping[str, Mapping[str, str]]) -> Iterator[Cluster]:
    """A cluster of one machine."""
    folder.mkdir()
    cluster = Cluster("", secrets, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cluster
    finally:
        for name in cluster.processes:
            cluster.kill(name)
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self, content: Mapping[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, message: str) -> None:
        self._answer({"kind": "Status", "status": "Failure", "message": message, "code": status}, status)

    def _handle(self) -> None:
        url, cluster = urlsplit(self.path), self.cluster
        cluster.requests.append(f"{self.command} {url.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized")
        parts = url.path.strip("/").split("/")
        if parts[:3] == ["apis", "batch", "v1"] and parts[5] == "jobs":
            return self._job(parts[4], parts[6:], body)
        if parts[:2] == ["api", "v1"] and parts[4] == "pods":
            if len(parts) == 5:
                (selector,) = parse_qs(url.query)["labelSelector"]
                name = selector.removeprefix("batch.kubernetes.io/job-name=")
                metadata = {"name": f"{name}-0", "creationTimestamp": "2026-01-01T00:00:00Z"}
                return self._answer(
                    {"items": [{"metadata": metadata, "status": {"phase": "Running"}}] if name in cluster.jobs else []}
                )
            return self._log(parts[5].removesuffix("-0"))
        return self._refuse(404, "the server could not find the requested resource")

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def _job(self, namespace: str, rest: list[str], body: bytes) -> None:
        cluster = self.cluster
        if self.command == "POST":
            job = json.loads(body)
            try:
                kubernetes_validate.validate(job, "1.33", strict=True)
            except kubernetes_validate.ValidationError as error:
                return self._refuse(422, str(error.message))
            if job["metadata"]["namespace"] != namespace:
                return self._refuse(400, "the namespace of the provided object does not match the namespace sent on the request")
            cluster.start(job)
            return self._answer(job, 201)
        (name,) = rest
        if name not in cluster.jobs:
            return self._refuse(404, f'jobs.batch "{name}" not found')
        if self.command == "DELETE":
            cluster.deleted.append(name)
            cluster.kill(name)
            return self._answer({"kind": "Status", "status": "Success"})
        return self._answer({**cluster.jobs[name], "status": cluster.status(name)})

    def _log(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with (self.cluster.folder / f"{name}.log").open("rb") as log:
            over = False
            while True:
                if chunk := log.read(1000):
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                elif over:
                    break
                else:
                    over = self.cluster.processes[name].poll() is not None
                    time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")
