"""What libseccomp makes of a profile, called as runc calls it.

Reads profiles in OCI's form, one JSON object a line, with `architectures` whole;
writes the instructions of each in hexadecimal, one line.
"""

import ctypes
import errno
import json
import sys
import tempfile

library = ctypes.CDLL("libseccomp.so.2")


class Condition(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("value", ctypes.c_uint64), ("second", ctypes.c_uint64)]


context = ctypes.c_void_p
library.seccomp_init.restype = context
library.seccomp_init.argtypes = [ctypes.c_uint32]
library.seccomp_arch_add.argtypes = [context, ctypes.c_uint32]
library.seccomp_arch_remove.argtypes = [context, ctypes.c_uint32]
library.seccomp_arch_native.restype = ctypes.c_uint32
library.seccomp_attr_set.argtypes = [context, ctypes.c_int, ctypes.c_uint32]
library.seccomp_rule_add_array.argtypes = [context, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Condition)]
library.seccomp_export_bpf.argtypes = [context, ctypes.c_int]
library.seccomp_release.argtypes = [context]
library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]

unknown = -1
optimize = 8  # SCMP_FLTATR_CTL_OPTIMIZE
architectures = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
operators = ["", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"]


def action(name, data):
    data = errno.EPERM if data is None else data & 0xFFFF
    return {
        "SCMP_ACT_KILL": 0,
        "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL_PROCESS": 0x80000000,
        "SCMP_ACT_TRAP": 0x30000,
        "SCMP_ACT_ERRNO": 0x50000 | data,
        "SCMP_ACT_TRACE": 0x7FF00000 | data,
        "SCMP_ACT_LOG": 0x7FFC0000,
        "SCMP_ACT_ALLOW": 0x7FFF0000,
    }[name]


def check(result):
    if result != 0:
        raise OSError(-result, "libseccomp")


def compiled(profile):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    filter = library.seccomp_init(default)
    for name in profile["architectures"]:
        if library.seccomp_arch_add(filter, architectures[name]) not in (0, -errno.EEXIST):
            raise OSError("an architecture is refused")
    native = library.seccomp_arch_native()
    if native not in [architectures[name] for name in profile["architectures"]]:
        check(library.seccomp_arch_remove(filter, native))
    rules = [(rule, name) for rule in profile["syscalls"] for name in rule["names"]]
    if len(rules) > 32:
        check(library.seccomp_attr_set(filter, optimize, 2))
    for rule, name in rules:
        then = action(rule["action"], rule.get("errnoRet"))
        number = library.seccomp_syscall_resolve_name(name.encode())
        if then == default or number == unknown:
            continue
        conditions = rule.get("args") or []
        distinct = len({each["index"] for each in conditions}) == len(conditions)
        for together in [conditions] if distinct else [[each] for each in conditions]:
            array = (Condition * max(1, len(together)))(
                *[Condition(each["index"], operators.index(each["op"]), each["value"], each.get("valueTwo", 0)) for each in together]
            )
            check(library.seccomp_rule_add_array(filter, then, number, len(together), array))
    with tempfile.TemporaryFile() as file:
        check(library.seccomp_export_bpf(filter, file.fileno()))
        file.seek(0)
        program = file.read()
    library.seccomp_release(filter)
    return program


for line in sys.stdin:
    print(compiled(json.loads(line)).hex(), flush=True)
