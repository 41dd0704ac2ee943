"""Runs under the unit's restrictions: prints what the expressions of the arguments come to, as JSON.

The expressions use what is imported here."""

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import sys

import seccomp

NATIVE = 0  # the kind of system calls that this machine has
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A system call by its name; what cannot do harm where it is allowed."""
    number = seccomp.resolve_syscall(NATIVE, name)
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(word) for word in arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)
    return "done"


def write(path, mode=None):
    """The file's mode after it was made, and changed if one is given."""
    with open(path, "w"):
        try:
            if mode is not None:
                os.chmod(path, mode)
            return oct(os.stat(path).st_mode & 0o7777)
        finally:
            os.unlink(path)


def mode(path):
    return oct(os.stat(path).st_mode & 0o7777)


def status(name):
    with open("/proc/self/status") as file:
        return dict(line.split(":\t", 1) for line in file.read().splitlines())[name]


def read(path):
    with open(path) as file:
        return file.read().split()


def is_read_only(path):
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def namespace(name):
    return os.readlink(f"/proc/self/ns/{name}")


def keyring():
    """The name of the session's; -3 stands for it, 6 for KEYCTL_DESCRIBE."""
    described = ctypes.create_string_buffer(200)
    call("keyctl", 6, -3, ctypes.addressof(described), len(described))
    return described.value.decode().split(";")[-1]


def evaluate(expression):
    try:
        return eval(expression)
    except OSError as error:
        return errno.errorcode[error.errno]


if __name__ == "__main__":
    print(json.dumps({expression: evaluate(expression) for expression in sys.argv[1:]}))
