/* SCOPE(id, name, what it allows) */
SCOPE(LOGIN, "login", "log users in")
SCOPE(VALIDATE, "validate", "validate tokens")
SCOPE(MANAGE, "manage", "list devices, kick, log out, freeze, attributes")
SCOPE(POLICY, "policy", "set all of a tenant's policy, its rate too; log it out")
SCOPE(INTROSPECT, "introspect", "the OAuth endpoints")
SCOPE(OPS, "ops", "operations")
