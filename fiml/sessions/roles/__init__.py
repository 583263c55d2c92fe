"""The database roles of an installation: made where that is allowed, used where they are there.

Roles belong to a cluster and an installation to one database of it, so their names begin with the
database's. They are groups that cannot log in; an operator makes logins members of them. What each
may do is in `0007_roles.sql`. Why all this: docs/decisions/0008-roles.md.
"""

from fiml.sessions.roles._catalogue import KnownRole, known_roles, roles_in_use
from fiml.sessions.roles._names import SETTINGS_OF_LOGINS, Purpose, default_prefix, role_names
from fiml.sessions.roles._removal import drop_left_roles, remove_roles
from fiml.sessions.roles._setup import set_up_roles

__all__ = [
    "SETTINGS_OF_LOGINS",
    "KnownRole",
    "Purpose",
    "default_prefix",
    "drop_left_roles",
    "known_roles",
    "remove_roles",
    "role_names",
    "roles_in_use",
    "set_up_roles",
]
