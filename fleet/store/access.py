"""Who may do what on the embedded Redis: its users, their passwords and their access list.

Every right follows from the key table: the coordinator writes decisions, agents write reports and
read nothing, consumers read and write nothing.
"""

import hashlib
import secrets
from typing import Literal

from agents.wire.keys import KEY_TABLE

Role = Literal["coordinator", "agent", "consumer"]
ROLES: tuple[Role, ...] = ("coordinator", "agent", "consumer")

# CLIENT SETINFO is what redis-py says about itself when it connects.
_GREETING = "+ping +hello +auth +client|setinfo +client|setname +client|getname +acl|whoami"
_COMMANDS: dict[Role, str] = {
    # Nothing that reconfigures the server or reaches beyond the namespace (FLUSHALL, CONFIG, KEYS,
    # DEBUG, ACL ... are all admin or dangerous); INFO is harmless and of use to `fleet doctor`.
    "coordinator": f"+@all -@admin -@dangerous -@scripting {_GREETING} +info",
    "agent": f"{_GREETING} +set +xadd +expire",
    "consumer": f"+@read -@admin -@dangerous -@scripting {_GREETING}",
}


def make_passwords() -> dict[Role, str]:
    """Return a password of 192 random bits for every role."""
    return {role: secrets.token_urlsafe(24) for role in ROLES}


def access_list(namespace: str, passwords: dict[Role, str]) -> str:
    """Return the content of an ACL file; it holds hashes of the passwords, not the passwords."""
    lines = ["user default reset off"]
    for role in ROLES:
        digest = hashlib.sha256(passwords[role].encode()).hexdigest()
        lines.append(f"user {role} reset on #{digest} {_keys(role, namespace)} {_COMMANDS[role]}")
    return "\n".join(lines) + "\n"


def _keys(role: Role, namespace: str) -> str:
    if role == "coordinator":
        return f"~{namespace}:*"
    if role == "consumer":
        return f"%R~{namespace}:*"
    patterns = (row.pattern for row in KEY_TABLE if row.writer == "agent")
    return " ".join(f"%W~{namespace}:{pattern.split(':')[1]}:*" for pattern in patterns)
