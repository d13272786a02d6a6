"""The four requests to a Kubernetes API server that running a job takes, over HTTP; no client library is needed for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from ftplatform.errors import TrainingError
from ftplatform.training.launchers.kubernetes import JobState

#: Where Kubernetes puts the credentials of a pod's service account.
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds to connect, and of silence: a trainer says something every step, and a quiet log is asked for again.
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)
#: Only what may be repeated; a job is created once.
_RETRIES = urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET", "DELETE"))
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class KubernetesApi:
    """Jobs of a cluster.

    Args:
        url: of the API server, `https://host:port`.
        token_file: holds the bearer token; read for every request, since Kubernetes replaces it.
        ca_file: certificates the server's is checked with.

    Raises:
        TrainingError: the address would send the token in the clear over a network.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _THIS_MACHINE:
            raise TrainingError(f"{parts.hostname} would get the token unencrypted", remedy="Give an https:// address.")
        self._url, self._token_file = url.rstrip("/"), token_file
        self._http = urllib3.PoolManager(
            timeout=_TIMEOUT, retries=_RETRIES, cert_reqs="CERT_REQUIRED", ca_certs=str(ca_file) if ca_file else None
        )

    @classmethod
    def in_cluster(cls) -> KubernetesApi:
        """The API of the cluster this process runs in, as the pod's service account.

        Raises:
            TrainingError: it runs in none.
        """
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (_ACCOUNT / "token").is_file():
            raise TrainingError(
                "there is no Kubernetes cluster around this process",
                remedy="Run it in a pod with a service account (deploy/k8s/training), or give a client.",
            )
        address = f"[{host}]" if ":" in host else host
        return cls(f"https://{address}:{port}", token_file=_ACCOUNT / "token", ca_file=_ACCOUNT / "ca.crt")

    def create(self, job: Mapping[str, Any]) -> None:
        """Submits a Job."""
        self._request("POST", _jobs(job["metadata"]["namespace"]), body=job)

    def state(self, namespace: str, name: str) -> JobState:
        """How a job stands."""
        status = self._request("GET", f"{_jobs(namespace)}/{name}").get("status", {})
        for condition in status.get("conditions") or ():
            if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
                phase = "succeeded" if condition["type"] == "Complete" else "failed"
                return JobState(phase, " ".join(filter(None, (condition.get("reason"), condition.get("message"))))[:500])
        return JobState("running")

    def log(self, namespace: str, name: str) -> Iterator[str]:
        """Lines of the newest pod of a job as they come; none while it has not started."""
        pods = f"/api/v1/namespaces/{namespace}/pods"
        query = {"labelSelector": f"batch.kubernetes.io/job-name={name}"}
        started = [
            pod
            for pod in self._request("GET", pods, fields=query).get("items", ())
            if pod.get("status", {}).get("phase") != "Pending"
        ]
        if not started:
            return
        pod = max(started, key=lambda found: found["metadata"]["creationTimestamp"])["metadata"]["name"]
        if not _NAME.fullmatch(pod):
            raise TrainingError(f"{pod[:80]!r} is no name of a pod", remedy="Look at the Kubernetes API server.")
        # 400: its container never started. 404: it was removed meanwhile.
        response = self._send("GET", f"{pods}/{pod}/log", fields={"follow": "true"}, stream=True, tolerate=(400, 404))
        if response.status != 200:
            response.drain_conn()
            return
        try:
            rest = b""
            for chunk in response.stream(2**16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
        except urllib3.exceptions.HTTPError:
            return  # the connection broke or was silent; whoever reads asks again
        finally:
            response.close()

    def delete(self, namespace: str, name: str) -> None:
        """Removes a job and its pods; does nothing if there is none."""
        response = self._send("DELETE", f"{_jobs(namespace)}/{name}", fields={"propagationPolicy": "Background"}, tolerate=(404,))
        response.release_conn()

    def _request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, fields: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        response = self._send(method, path, body=body, fields=fields)
        try:
            found = json.loads(response.data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TrainingError(f"{self._url} is no Kubernetes API", remedy="Check its address.")
        return found

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        fields: Mapping[str, str] | None = None,
        stream: bool = False,
        tolerate: Collection[int] = (),
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json, */*", "Content-Type": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        query = f"?{urlencode(fields)}" if fields else ""
        try:
            response = self._http.request(
                method,
                f"{self._url}{path}{query}",
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                preload_content=not stream,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise TrainingError(
                f"the Kubernetes API at {self._url} does not answer ({type(error).__name__})",
                remedy="Check the cluster, then run again.",
            ) from error
        if response.status >= 300 and response.status not in tolerate:
            raise TrainingError(
                f"the Kubernetes API refused to {method} {path}: {response.status} {_message(response)}",
                remedy="Check the rights of the service account (deploy/k8s/training) and the job's options.",
            )
        return response


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _message(response: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(json.loads(response.data).get("message", ""))[:500]
    except (ValueError, AttributeError):
        return ""
