"""A kubelet's part: drives a container runtime through CRI and prints what it saw as JSON.

A program of its own, because gRPC's threads do not go with a test process that forks.
"""

import json
import os
import sys
import time
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as cri
from cri_api.v1.api_pb2_grpc import ImageServiceStub, RuntimeServiceStub

SOCKET, IMAGE, FOLDER = sys.argv[1:]


def wait_for_state(runtime: Any, container: str, state: int) -> Any:
    end = time.monotonic() + 20
    while True:
        status = runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container)).status
        if status.state == state or time.monotonic() > end:
            return status
        time.sleep(0.05)


def container(runtime: Any, sandbox: str, pod: Any, name: str, *command: str, **linux: Any) -> str:
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name),
        image=cri.ImageSpec(image=IMAGE),
        command=command,
        log_path=f"{name}.log",
        linux=cri.LinuxContainerConfig(**linux),
    )
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=pod)
    made: str = runtime.CreateContainer(request).container_id
    runtime.StartContainer(cri.StartContainerRequest(container_id=made))
    return made


def main() -> None:
    channel = grpc.insecure_channel("unix://" + SOCKET)
    runtime, images = RuntimeServiceStub(channel), ImageServiceStub(channel)
    saw: dict[str, Any] = {}
    grpc.channel_ready_future(channel).result(timeout=60)
    end = time.monotonic() + 30
    while not all(c.status for c in runtime.Status(cri.StatusRequest()).status.conditions) and time.monotonic() < end:
        time.sleep(0.2)
    saw["images"] = [tag for image in images.ListImages(cri.ListImagesRequest()).images for tag in image.repo_tags]
    pod = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name="pod", uid="u1", namespace="test", attempt=0),
        hostname="of-the-pod",
        log_directory=FOLDER,
        linux=cri.LinuxPodSandboxConfig(cgroup_parent="/kubepods"),
    )
    sandbox = runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=pod)).pod_sandbox_id
    try:
        security = cri.LinuxContainerSecurityContext(
            seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault), no_new_privs=True
        )
        limits = cri.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=512)
        first = container(
            runtime, sandbox, pod, "first", "sh", "-c", "trap 'exit 3' TERM; hostname; while :; do sleep 0.1; done",
            resources=limits, security_context=security,
        )  # fmt: skip

        def execute(*command: str, timeout: int = 10) -> Any:
            return runtime.ExecSync(cri.ExecSyncRequest(container_id=first, cmd=command, timeout=timeout))

        told = execute("sh", "-c", "hostname; grep -c 'Seccomp:.2' /proc/self/status; exit 5")
        saw["exec"] = [told.exit_code, told.stdout.decode().split()]
        try:
            execute("sleep", "30", timeout=1)
            saw["exec timeout"] = "ended"
        except grpc.RpcError as error:
            saw["exec timeout"] = error.code().name  # type: ignore[attr-defined]
        stats = runtime.ContainerStats(cri.ContainerStatsRequest(container_id=first)).stats
        saw["memory used"] = stats.memory.working_set_bytes.value
        update = cri.LinuxContainerResources(memory_limit_in_bytes=80 << 20)
        runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=first, linux=update))
        old = f"/sys/fs/cgroup/memory/kubepods/{first}/memory.limit_in_bytes"
        with open(old if os.path.exists(old) else f"/sys/fs/cgroup/kubepods/{first}/memory.max") as file:
            saw["memory limit"] = int(file.read())
        runtime.StopContainer(cri.StopContainerRequest(container_id=first, timeout=5))
        status = wait_for_state(runtime, first, cri.CONTAINER_EXITED)
        saw["stopped"] = status.exit_code
        with open(os.path.join(FOLDER, "first.log")) as file:
            saw["log"] = file.read().split()[-1]
        second = container(runtime, sandbox, pod, "second", "sh", "-c", "exit 4")
        saw["exit code"] = wait_for_state(runtime, second, cri.CONTAINER_EXITED).exit_code
        for one in (first, second):
            runtime.RemoveContainer(cri.RemoveContainerRequest(container_id=one))
    finally:
        runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    channel.close()
    print(json.dumps(saw))


if __name__ == "__main__":
    main()
