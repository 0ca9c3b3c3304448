"""config.json's objects for the type checker, after `schema.py`: OCI runtime spec 1.3, with the names of specs-go.

Nothing imports this at run time. No field is required here: `check.py` checks for the required ones.
"""

from typing import TypedDict


class Box(TypedDict, total=False):
    """runtime-spec: Box."""

    height: int
    width: int


class User(TypedDict, total=False):
    """runtime-spec: User."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str


class Capabilities(TypedDict, total=False):
    """runtime-spec: Capabilities."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict, total=False):
    """runtime-spec: Rlimit."""

    type: str
    hard: int
    soft: int


class Scheduler(TypedDict, total=False):
    """runtime-spec: Scheduler."""

    policy: str
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int}, total=False)


class CPUAffinity(TypedDict, total=False):
    """runtime-spec: CPUAffinity."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """runtime-spec: Process."""

    terminal: bool
    consoleSize: Box
    user: User
    args: list[str]
    commandLine: str
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    scheduler: Scheduler
    selinuxLabel: str
    ioPriority: IOPriority
    execCPUAffinity: CPUAffinity


class Root(TypedDict, total=False):
    """runtime-spec: Root."""

    path: str
    readonly: bool


class IDMapping(TypedDict, total=False):
    """runtime-spec: IDMapping."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """runtime-spec: Mount."""

    destination: str
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """runtime-spec: Hook."""

    path: str
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """runtime-spec: Hooks."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class DeviceRule(TypedDict, total=False):
    """runtime-spec: DeviceRule."""

    allow: bool
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """runtime-spec: Memory."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    """runtime-spec: CPU."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict, total=False):
    """runtime-spec: Pids."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """runtime-spec: WeightDevice."""

    major: int
    minor: int
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict, total=False):
    """runtime-spec: ThrottleDevice."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """runtime-spec: BlockIO."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict, total=False):
    """runtime-spec: HugepageLimit."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict, total=False):
    """runtime-spec: InterfacePriority."""

    name: str
    priority: int


class Network(TypedDict, total=False):
    """runtime-spec: Network."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """runtime-spec: Rdma."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """runtime-spec: Resources."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class Namespace(TypedDict, total=False):
    """runtime-spec: Namespace."""

    type: str
    path: str


class Device(TypedDict, total=False):
    """runtime-spec: Device."""

    path: str
    type: str
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class NetDevice(TypedDict, total=False):
    """runtime-spec: NetDevice."""

    name: str


class SeccompArg(TypedDict, total=False):
    """runtime-spec: SeccompArg."""

    index: int
    value: int
    valueTwo: int
    op: str


class Syscall(TypedDict, total=False):
    """runtime-spec: Syscall."""

    names: list[str]
    action: str
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """runtime-spec: Seccomp."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[Syscall]


class IntelRdt(TypedDict, total=False):
    """runtime-spec: IntelRdt."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableCMT: bool
    enableMBM: bool
    enableMonitoring: bool


class MemoryPolicy(TypedDict, total=False):
    """runtime-spec: MemoryPolicy."""

    mode: str
    nodes: str
    flags: list[str]


class Personality(TypedDict, total=False):
    """runtime-spec: Personality."""

    domain: str
    flags: list[str]


class TimeOffset(TypedDict, total=False):
    """runtime-spec: TimeOffset."""

    secs: int
    nanosecs: int


class Linux(TypedDict, total=False):
    """runtime-spec: Linux."""

    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality
    timeOffsets: dict[str, TimeOffset]


class Spec(TypedDict, total=False):
    """runtime-spec: Spec."""

    ociVersion: str
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux
