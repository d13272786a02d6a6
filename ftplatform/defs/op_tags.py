"""Pools and op tags of steps that want an accelerator, in one place.

`pool="gpu"` makes steps take turns on one machine (limit in dagster.yaml); the op tags ask a Kubernetes executor for a GPU
node. A step that carries one carries the other, so both come from here.
"""

GPU_POOL = "gpu"

#: Read by k8s_job_executor and by K8sRunLauncher (there the tags must be on the job). dagster-k8s validates the keys offline.
GPU_OP_TAGS = {
    "dagster-k8s/config": {
        "container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}},
        "pod_spec_config": {
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
}
