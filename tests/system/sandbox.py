"""Becomes a process of the unit: does to itself what the lines of the unit say, then executes a command.

    sandbox.py UNIT MACHINE UID COMMAND...

It makes the system calls of a service manager (systemd.exec(5)), in its order:
limits, namespaces and mounts, the user, capabilities, system calls. MACHINE is a directory with the
machine's etc, run, usr/local, var/lib and var/log, which take the place of the real ones.
"""

import ctypes
import errno
import functools
import os
import resource
import socket
import stat
import subprocess
import sys

import seccomp

from unit_file import Unit

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 4096, 16384, 1 << 19
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
SYS_MOUNT_SETATTR = 442
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_SET_NO_NEW_PRIVS = 23, 24, 47, 38
PR_CAP_AMBIENT_CLEAR_ALL, KEYCTL_JOIN_SESSION_KEYRING = 4, 1
ALL_NAMESPACES = 0x7E020080  # every CLONE_NEW flag
ORDINARY_POLICIES = (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
DEFAULT_LIMITS = {"NOFILE": 1024}  # systemd's own
OWN_PLACES = ("etc", "run", "usr/local", "var/lib", "var/log")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

NATIVE = 0  # the kind of system calls that this machine has
libc = ctypes.CDLL(None, use_errno=True)


def demand(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def syscall(name, *arguments):
    return libc.syscall(seccomp.resolve_syscall(NATIVE, name), *arguments)


def unshare(flags):
    demand(libc.unshare(flags), f"unshare {flags:#x}")


def mount(source, target, kind=None, flags=0, options=None):
    words = [word.encode() if word else None for word in (source, target, kind)]
    demand(libc.mount(*words, ctypes.c_ulong(flags), options.encode() if options else None), f"mount {target}")


def bind(source, target):
    mount(source, target, flags=MS_BIND | MS_REC)


def make_read_only(path, read_only=True):
    """The mount at the path and all below."""
    words = (ctypes.c_uint64 * 4)(*((MOUNT_ATTR_RDONLY, 0) if read_only else (0, MOUNT_ATTR_RDONLY)))
    demand(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, words, ctypes.sizeof(words)),
           f"mount_setattr {path}")


class Mounts:
    """The mount namespace of the service."""

    def __init__(self, unit, machine):
        self.unit, self.machine = unit, machine
        self.writable = []

    def enter(self):
        unshare(CLONE_NEWNS)
        mount(None, "/", flags=MS_REC | MS_SLAVE)
        for place in OWN_PLACES:
            bind(f"{self.machine}/{place}", f"/{place}")
        self.open_own_directories()
        if self.unit.is_on("PrivateDevices"):
            self.make_devices()
        for directive, paths in {"ProtectHome": ("/home", "/root", "/run/user"),
                                 "ProtectKernelModules": ("/usr/lib/modules",)}.items():
            if self.unit.is_on(directive):
                self.close(paths)
        options = [f"{option}={self.unit.one(directive)}" for directive, option in
                   {"ProtectProc": "hidepid", "ProcSubset": "subset"}.items() if self.unit.one(directive)]
        if options:
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ",".join(options))
        if self.unit.is_on("PrivateTmp"):  # the last one: the machine's directory may lie there
            self.take("/var/tmp")
            self.take("/tmp")
        self.protect()

    def take(self, path):
        """The machine's, writable."""
        bind(self.machine + path, path)
        self.writable.append(path)

    def open_own_directories(self):
        """A dynamic user's lie in a directory that others cannot enter, but where it sees them alone."""
        for _, link, path in self.unit.directories():
            if link != path:
                mount("tmpfs", os.path.dirname(path), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
                os.mkdir(path)
            self.take(path)

    def protect(self):
        if self.unit.one("ProtectSystem") == "strict":
            make_read_only("/")
            for path in (*self.writable, "/dev", "/proc", "/sys"):
                make_read_only(path, False)
        if self.unit.is_on("ProtectKernelTunables"):
            make_read_only("/sys")
        if self.unit.is_on("ProtectControlGroups"):
            make_read_only("/sys/fs/cgroup")

    def make_devices(self):
        scratch = f"{self.machine}/dev"
        mount("tmpfs", scratch, "tmpfs", MS_NOSUID, "mode=755")
        for name in DEVICES:
            open(f"{scratch}/{name}", "w").close()
            bind(f"/dev/{name}", f"{scratch}/{name}")
        for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
            os.symlink(f"/proc/self/fd{target}", f"{scratch}/{name}")
        os.mkdir(f"{scratch}/shm")
        os.chmod(f"{scratch}/shm", 0o1777)
        bind(scratch, "/dev")

    def close(self, paths):
        """Makes them inaccessible."""
        for path in filter(os.path.isdir, paths):
            bind(f"{self.machine}/inaccessible", path)


def limit(limits):
    """If the machine allows less, that is the limit."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        try:
            resource.setrlimit(kind, (value, value))
        except ValueError:
            most = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (most, most))


def private_users(uid):
    """root and the service's user are themselves, all others nobody. Only a process outside may map."""
    ours, theirs = socket.socketpair()
    pid = os.getpid()
    child = os.fork()
    if child == 0:
        ours.close()
        theirs.recv(1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(f"0 0 1\n{uid} {uid} 1\n")
        os._exit(0)
    theirs.close()
    unshare(CLONE_NEWUSER)
    ours.send(b"x")
    assert os.waitpid(child, 0)[1] == 0
    ours.close()


def drop_capabilities():
    capability = 0
    while libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        demand(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
        capability += 1


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


# --- system calls -------------------------------------------------------------------------------------

class Filter:
    """A seccomp filter: all is allowed, or nothing, and the rules say what else."""

    def __init__(self, default=seccomp.ALLOW):
        self.filter = seccomp.SyscallFilter(default)

    def refuse(self, name, *conditions, error=errno.EPERM):
        self.rule(seccomp.ERRNO(error), name, *conditions)

    def rule(self, action, name, *conditions):
        if seccomp.resolve_syscall(NATIVE, name) >= 0:
            self.filter.add_rule(action, name, *conditions)

    def load(self):
        self.filter.load()


@functools.cache
def groups():
    """{name: lines} of systemd's groups of system calls; a line names a call or a group."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = {}
    for line in shown.splitlines():
        if line.startswith("@"):
            lines = found[line] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            lines.append(line.strip())
    return found


def calls(word):
    if not word.startswith("@"):
        return {word}
    return {call for line in groups()[word] for call in calls(line)}


def allowed_calls(lines):
    """SystemCallFilter= lines: the first says what is allowed, those with ~ take away."""
    allowed = calls("@default")
    for line in lines:
        found = {call for word in line.lstrip("~").split() for call in calls(word)}
        allowed = allowed - found if line.startswith("~") else allowed | found
    return allowed


def system_call_filter(lines, error):
    made = Filter(seccomp.ERRNO(getattr(errno, error)))
    for name in sorted(allowed_calls(lines)):
        made.rule(seccomp.ALLOW, name)
    return made


def address_families(allowed):
    made = Filter()
    families = sorted(getattr(socket, name) for name in allowed.split())
    for family in range(max(families)):
        if family not in families:
            made.refuse("socket", seccomp.Arg(0, seccomp.EQ, family), error=errno.EAFNOSUPPORT)
    made.refuse("socket", seccomp.Arg(0, seccomp.GT, max(families)), error=errno.EAFNOSUPPORT)
    return made


def no_writable_code():
    made = Filter()
    code = 4  # PROT_EXEC
    made.refuse("mmap", seccomp.Arg(2, seccomp.MASKED_EQ, code | 2, code | 2))
    for name in ("mprotect", "pkey_mprotect"):
        made.refuse(name, seccomp.Arg(2, seccomp.MASKED_EQ, code, code))
    made.refuse("shmat", seccomp.Arg(2, seccomp.MASKED_EQ, 0o100000, 0o100000))
    return made


def no_namespaces():
    made = Filter()
    for bit in (1 << shift for shift in range(32) if ALL_NAMESPACES >> shift & 1):
        made.refuse("clone", seccomp.Arg(0, seccomp.MASKED_EQ, bit, bit))
        made.refuse("unshare", seccomp.Arg(0, seccomp.MASKED_EQ, bit, bit))
    made.refuse("setns")
    made.refuse("clone3", error=errno.ENOSYS)  # its flags lie in memory
    return made


def no_real_time():
    made = Filter()
    for policy in range(max(ORDINARY_POLICIES)):
        if policy not in ORDINARY_POLICIES:
            made.refuse("sched_setscheduler", seccomp.Arg(1, seccomp.EQ, policy))
    made.refuse("sched_setscheduler", seccomp.Arg(1, seccomp.GT, max(ORDINARY_POLICIES)))
    made.refuse("sched_setattr", error=errno.ENOSYS)
    return made


def no_set_ids():
    made = Filter()
    for bit in (stat.S_ISUID, stat.S_ISGID):
        for name, argument in {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1,
                               "mknodat": 2, "creat": 1}.items():
            made.refuse(name, seccomp.Arg(argument, seccomp.MASKED_EQ, bit, bit))
        for name, argument in {"open": 1, "openat": 2}.items():
            made.refuse(name, seccomp.Arg(argument, seccomp.MASKED_EQ, os.O_CREAT, os.O_CREAT),
                        seccomp.Arg(argument + 1, seccomp.MASKED_EQ, bit, bit))
    made.refuse("openat2", error=errno.ENOSYS)
    return made


def one_personality():
    made = Filter()
    made.refuse("personality", seccomp.Arg(0, seccomp.NE, 0))
    return made


def none_of(*words):
    made = Filter()
    for name in {call for word in words for call in calls(word)}:
        made.refuse(name)
    return made


def filters(unit):
    """The filters of the unit's lines, in systemd's order."""
    if unit.one("RestrictAddressFamilies"):
        yield address_families(unit.one("RestrictAddressFamilies"))
    for directive, make in {
            "MemoryDenyWriteExecute": no_writable_code, "RestrictRealtime": no_real_time,
            "RestrictSUIDSGID": no_set_ids, "RestrictNamespaces": no_namespaces,
            "ProtectHostname": lambda: none_of("sethostname", "setdomainname"),
            "ProtectKernelModules": lambda: none_of("@module"), "ProtectKernelLogs": lambda: none_of("syslog"),
            "ProtectClock": lambda: none_of("@clock"), "PrivateDevices": lambda: none_of("@raw-io"),
            # A filter for this machine's kind of calls ends whoever comes with those of another.
            "SystemCallArchitectures": Filter, "LockPersonality": one_personality}.items():
        if unit.is_on(directive):
            yield make()
    if unit.all("SystemCallFilter"):
        yield system_call_filter(unit.all("SystemCallFilter"), unit.one("SystemCallErrorNumber", "EPERM"))


def enter(unit, machine, uid):
    made = list(filters(unit))  # systemd-analyze runs outside
    limit({**DEFAULT_LIMITS, **unit.limits()})
    os.umask(int(unit.one("UMask", "0022"), 8))
    if unit.one("KeyringMode") == "private":
        demand(syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")
    if unit.is_on("PrivateIPC"):
        unshare(CLONE_NEWIPC)
    Mounts(unit, machine).enter()
    if unit.is_on("ProtectHostname"):
        unshare(CLONE_NEWUTS)
    os.chdir("/")
    if unit.is_on("PrivateUsers"):
        private_users(uid)
    if unit.one("CapabilityBoundingSet") == "":
        drop_capabilities()
    if unit.one("User"):
        become(uid)
    if unit.is_on("NoNewPrivileges"):
        demand(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    for one in made:
        one.load()


if __name__ == "__main__":
    unit = Unit(sys.argv[1])
    enter(unit, sys.argv[2], int(sys.argv[3]))
    os.execv(sys.argv[4], sys.argv[4:])
