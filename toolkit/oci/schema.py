"""The types of config.json's fields: OCI runtime spec 1.3.

A type is "str", "bool", an integer type ("u32", "i64"…), [T] for an array of T, (T,) for an object with any keys and
values of T, or a dict of fields. Pure data.
"""

_HOOK = {"path": "str", "args": ["str"], "env": ["str"], "timeout": "i64"}
_MAPPING = {"containerID": "u32", "hostID": "u32", "size": "u32"}
_WEIGHT = {"major": "i64", "minor": "i64", "weight": "u16", "leafWeight": "u16"}
_THROTTLE = {"major": "i64", "minor": "i64", "rate": "u64"}
_CLOCK = {"secs": "i64", "nanosecs": "u32"}

PROCESS = {
    "terminal": "bool",
    "consoleSize": {"height": "u64", "width": "u64"},
    "user": {"uid": "u32", "gid": "u32", "umask": "u32", "additionalGids": ["u32"], "username": "str"},
    "args": ["str"],
    "commandLine": "str",
    "env": ["str"],
    "cwd": "str",
    "capabilities": {
        "bounding": ["str"],
        "effective": ["str"],
        "inheritable": ["str"],
        "permitted": ["str"],
        "ambient": ["str"],
    },
    "rlimits": [{"type": "str", "hard": "u64", "soft": "u64"}],
    "noNewPrivileges": "bool",
    "apparmorProfile": "str",
    "oomScoreAdj": "i64",
    "scheduler": {
        "policy": "str",
        "nice": "i32",
        "priority": "i32",
        "flags": ["str"],
        "runtime": "u64",
        "deadline": "u64",
        "period": "u64",
    },
    "selinuxLabel": "str",
    "ioPriority": {"class": "str", "priority": "i64"},
    "execCPUAffinity": {"initial": "str", "final": "str"},
}

RESOURCES = {
    "devices": [{"allow": "bool", "type": "str", "major": "i64", "minor": "i64", "access": "str"}],
    "memory": {
        "limit": "i64",
        "reservation": "i64",
        "swap": "i64",
        "kernel": "i64",
        "kernelTCP": "i64",
        "swappiness": "u64",
        "disableOOMKiller": "bool",
        "useHierarchy": "bool",
        "checkBeforeUpdate": "bool",
    },
    "cpu": {
        "shares": "u64",
        "quota": "i64",
        "burst": "u64",
        "period": "u64",
        "realtimeRuntime": "i64",
        "realtimePeriod": "u64",
        "cpus": "str",
        "mems": "str",
        "idle": "i64",
    },
    "pids": {"limit": "i64"},
    "blockIO": {
        "weight": "u16",
        "leafWeight": "u16",
        "weightDevice": [_WEIGHT],
        "throttleReadBpsDevice": [_THROTTLE],
        "throttleWriteBpsDevice": [_THROTTLE],
        "throttleReadIOPSDevice": [_THROTTLE],
        "throttleWriteIOPSDevice": [_THROTTLE],
    },
    "hugepageLimits": [{"pageSize": "str", "limit": "u64"}],
    "network": {"classID": "u32", "priorities": [{"name": "str", "priority": "u32"}]},
    "rdma": ({"hcaHandles": "u32", "hcaObjects": "u32"},),
    "unified": ("str",),
}

SECCOMP = {
    "defaultAction": "str",
    "defaultErrnoRet": "u32",
    "architectures": ["str"],
    "flags": ["str"],
    "listenerPath": "str",
    "listenerMetadata": "str",
    "syscalls": [
        {
            "names": ["str"],
            "action": "str",
            "errnoRet": "u32",
            "args": [{"index": "u32", "value": "u64", "valueTwo": "u64", "op": "str"}],
        }
    ],
}

LINUX = {
    "uidMappings": [_MAPPING],
    "gidMappings": [_MAPPING],
    "sysctl": ("str",),
    "resources": RESOURCES,
    "cgroupsPath": "str",
    "namespaces": [{"type": "str", "path": "str"}],
    "devices": [
        {
            "path": "str",
            "type": "str",
            "major": "i64",
            "minor": "i64",
            "fileMode": "u32",
            "uid": "u32",
            "gid": "u32",
        }
    ],
    "netDevices": ({"name": "str"},),
    "seccomp": SECCOMP,
    "rootfsPropagation": "str",
    "maskedPaths": ["str"],
    "readonlyPaths": ["str"],
    "mountLabel": "str",
    "intelRdt": {
        "closID": "str",
        "schemata": ["str"],
        "l3CacheSchema": "str",
        "memBwSchema": "str",
        "enableCMT": "bool",
        "enableMBM": "bool",
        "enableMonitoring": "bool",
    },
    "memoryPolicy": {"mode": "str", "nodes": "str", "flags": ["str"]},
    "personality": {"domain": "str", "flags": ["str"]},
    "timeOffsets": (_CLOCK,),
}

SPEC = {
    "ociVersion": "str",
    "process": PROCESS,
    "root": {"path": "str", "readonly": "bool"},
    "hostname": "str",
    "domainname": "str",
    "mounts": [
        {
            "destination": "str",
            "type": "str",
            "source": "str",
            "options": ["str"],
            "uidMappings": [_MAPPING],
            "gidMappings": [_MAPPING],
        }
    ],
    "hooks": {
        "prestart": [_HOOK],
        "createRuntime": [_HOOK],
        "createContainer": [_HOOK],
        "startContainer": [_HOOK],
        "poststart": [_HOOK],
        "poststop": [_HOOK],
    },
    "annotations": ("str",),
    "linux": LINUX,
}

OTHER_PLATFORMS = frozenset(("windows", "solaris", "vm", "zos", "freebsd"))
