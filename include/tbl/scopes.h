/* SCOPE(id, name, what it allows) */
SCOPE(LOGIN, "login", "log users in")
SCOPE(VALIDATE, "validate", "validate tokens")
SCOPE(MANAGE, "manage", "list devices, kick, log out, freeze, attributes")
SCOPE(POLICY, "policy", "set a tenant's policy, log the tenant out")
SCOPE(INTROSPECT, "introspect", "the OAuth endpoints")
SCOPE(OPS, "ops", "operations")
