"""The lines of a unit, and what the tests make of each directive.

A directive or a value that no table here has is an error: whoever adds one to the unit says here
what becomes of it."""

import pathlib
import re

UNIT = pathlib.Path(__file__).resolve().parents[2] / "systemd" / "sessiond.service"
# systemd hands over what LoadCredential= names; the unit has these lines commented out.
CREDENTIAL = re.compile(r"^#?LoadCredential=([^:\s]+):(/\S+)$", re.M)

YES = r"yes"
# Directives that sandbox.py applies, with the values that it knows how to apply.
APPLIED = {
    "DynamicUser": YES, "User": r"\w+", "StateDirectory": r"\w+", "StateDirectoryMode": r"0\d{3}",
    "LogsDirectory": r"\w+", "LogsDirectoryMode": r"0\d{3}", "RuntimeDirectory": r"\w+",
    "RuntimeDirectoryMode": r"0\d{3}", "ConfigurationDirectory": r"\w+", "UMask": r"0\d{3}",
    "LimitNOFILE": r"\d+", "LimitCORE": r"\d+", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
    "NoNewPrivileges": YES, "ProtectSystem": "strict", "ProtectHome": YES, "PrivateTmp": YES,
    "PrivateDevices": YES, "PrivateUsers": YES, "PrivateIPC": YES, "PrivateMounts": YES,
    "ProtectProc": "invisible", "ProcSubset": "pid", "ProtectClock": YES, "ProtectHostname": YES,
    "ProtectKernelLogs": YES, "ProtectKernelModules": YES, "ProtectKernelTunables": YES,
    "ProtectControlGroups": YES, "RestrictNamespaces": YES, "RestrictRealtime": YES,
    "RestrictSUIDSGID": YES, "RestrictAddressFamilies": r"AF_\w+( AF_\w+)*", "LockPersonality": YES,
    "MemoryDenyWriteExecute": YES, "KeyringMode": "private", "SystemCallArchitectures": "native",
    "SystemCallFilter": r"~?@[\w-]+( @[\w-]+)*", "SystemCallErrorNumber": r"E\w+",
}
# Kept by unit.Service, in the place of the service manager.
KEPT = {
    "Type": "notify", "NotifyAccess": "main", "ExecStart": r"/\S+( \S+)*", "ExecReload": r"/\S+( \S+)*",
    "Environment": r"\w+=\S+", "WatchdogSec": r"\d+s", "TimeoutStartSec": r"\d+s", "TimeoutStopSec": r"\d+s",
    "LoadCredential": r"[\w.-]+:/\S+",
}
# Lines that need a service manager, and what it would do.
NOT_APPLIED = {
    "Description": "a text", "Documentation": "a text",
    "Wants": "an order of units", "After": "an order of units", "WantedBy": "an order of units",
    "Restart": "the manager starts the service again when it fails",
    "RestartSec": "the manager waits before that",
    "RestartPreventExitStatus": "the manager does not do it after a refused configuration",
    "RemoveIPC": "the manager removes the user's IPC objects after a stop; PrivateIPC leaves none",
    "DevicePolicy": "a program in the control group; PrivateDevices leaves no other devices to open",
}


class Unit:
    def __init__(self, path=UNIT):
        self.text = pathlib.Path(path).read_text()
        self.lines = re.findall(r"^([A-Z]\w*)=(.*)$", self.text.replace("\\\n", " "), re.M)

    def unknown(self):
        """Lines that the tables do not have."""
        known = {**APPLIED, **KEPT, **dict.fromkeys(NOT_APPLIED, ".*")}
        return [f"{name}={value}" for name, value in self.lines
                if name not in known or not re.fullmatch(known[name], value)]

    def without(self, *names):
        """The text of a unit that lacks these directives."""
        return re.sub(rf"^({'|'.join(names)})=.*\n", "", self.text, flags=re.M)

    def all(self, name):
        return [value for given, value in self.lines if given == name]

    def one(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"{len(values)} lines {name}="
        return values[0] if values else default

    def is_on(self, name):
        return self.one(name) in ("yes", "native")

    def seconds(self, name):
        return int(self.one(name).removesuffix("s"))

    def limits(self):
        return {name.removeprefix("Limit"): int(value) for name, value in self.lines if name.startswith("Limit")}

    def directories(self):
        """(directive, path that the service uses, path where it is) of its directories. Files that a dynamic user
        keeps over restarts lie where nobody else can get, behind a link."""
        for name, parent in {"StateDirectory": "/var/lib", "LogsDirectory": "/var/log",
                             "RuntimeDirectory": "/run"}.items():
            if self.one(name):
                private = "/private" if self.is_on("DynamicUser") and name != "RuntimeDirectory" else ""
                yield name, f"{parent}/{self.one(name)}", f"{parent}{private}/{self.one(name)}"
