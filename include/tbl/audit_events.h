/* AUDIT_EVENT(id, event.action, event.category, event.type, message on success, message on failure,
 *             durable: on disk before the answer)
 * AUDIT_ALERT(id, event.action, event.category, event.type): event.kind is "alert"
 * Categories and types are combinations that the Elastic Common Schema allows. */
#ifndef AUDIT_ALERT
#define AUDIT_ALERT(id, action, category, type) AUDIT_EVENT(id, action, category, type, "", "", false)
#endif
AUDIT_EVENT(LOGIN, "login", "\"authentication\",\"session\"", "\"start\"", "login succeeded", "login failed", true)
AUDIT_EVENT(VALIDATE, "validate", "\"session\"", "\"info\"", "token validated", "validation failed", false)
AUDIT_EVENT(INTROSPECT, "introspect", "\"session\"", "\"info\"", "token introspected", "introspection failed", false)
AUDIT_EVENT(REFRESH, "refresh", "\"authentication\",\"session\"", "\"info\"", "tokens refreshed", "refresh failed", true)
AUDIT_EVENT(DEVICES, "list-devices", "\"session\"", "\"info\"", "devices listed", "listing of devices failed", false)
AUDIT_EVENT(KICK, "kick", "\"session\"", "\"end\"", "session kicked", "kick failed", true)
AUDIT_EVENT(LOGOUT, "logout", "\"session\"", "\"end\"", "logged out", "logout failed", true)
AUDIT_EVENT(REVOKE, "revoke-token", "\"session\"", "\"end\"", "token revoked", "revocation failed", true)
AUDIT_EVENT(LOGOUT_ALL, "logout-all", "\"session\"", "\"end\"", "logged out everywhere", "logout everywhere failed", true)
AUDIT_EVENT(HISTORY, "show-history", "\"session\"", "\"info\"", "history shown", "showing of history failed", false)
AUDIT_EVENT(USER, "show-user", "\"session\"", "\"info\"", "user shown", "showing of user failed", false)
AUDIT_EVENT(VERIFY, "verify-login", "\"authentication\",\"session\"", "\"start\"", "verification succeeded", "verification failed", true)
AUDIT_EVENT(FREEZE, "freeze", "\"iam\",\"session\"", "\"user\",\"end\"", "user frozen", "freezing failed", true)
AUDIT_EVENT(UNFREEZE, "unfreeze", "\"iam\"", "\"user\",\"change\"", "user unfrozen", "unfreezing failed", true)
AUDIT_EVENT(ATTRIBUTES, "show-attributes", "\"session\"", "\"info\"", "attributes shown", "showing of attributes failed", false)
AUDIT_EVENT(SET_ATTRIBUTES, "set-attributes", "\"session\"", "\"info\"", "attributes changed", "change of attributes failed", true)
AUDIT_EVENT(EXPLAIN, "explain-token", "\"session\"", "\"info\"", "token explained", "explanation failed", false)
AUDIT_EVENT(POLICY, "show-policy", "\"configuration\"", "\"access\"", "policy shown", "showing of policy failed", false)
AUDIT_EVENT(SET_POLICY, "set-policy", "\"configuration\"", "\"change\"", "policy changed", "change of policy failed", true)
AUDIT_EVENT(TENANT_SESSIONS, "list-tenant", "\"session\"", "\"info\"", "tenant's sessions listed", "listing of tenant failed", false)
AUDIT_EVENT(TENANT_LOGOUT_ALL, "tenant-logout-all", "\"session\"", "\"end\"", "tenant logged out", "logout of tenant failed", true)
AUDIT_ALERT(ALERT, "alert", "\"intrusion_detection\"", "\"info\"")
AUDIT_EVENT(DOCUMENT, "read-document", "\"web\"", "\"access\"", "document read", "reading of document failed", false)
AUDIT_EVENT(AUTHZ, "authorize", "\"web\"", "\"access\"", "request of a gateway allowed", "request of a gateway denied", false)
AUDIT_EVENT(PREFLIGHT, "preflight", "\"web\"", "\"access\"", "page of a known origin may call", "page may not call", false)
AUDIT_EVENT(REFUSED, "refused-request", "\"web\"", "\"error\"", "request refused", "request refused", false)
/* Recorded by the main thread, about the service. */
AUDIT_EVENT(START, "start", "\"process\"", "\"start\"", "service started", "service did not start", false)
AUDIT_EVENT(STOP, "stop", "\"process\"", "\"end\"", "service stopped", "service stopped by force", false)
AUDIT_EVENT(RELOAD, "reload", "\"configuration\"", "\"change\"", "configuration reloaded", "configuration refused", false)
AUDIT_EVENT(KEYS, "change-keys", "\"configuration\"", "\"change\"", "key file changed", "key file changed", false)
/* Recorded by the audit writer itself, about the file. */
AUDIT_EVENT(RECOVERED, "recovered", "\"file\"", "\"change\"", "audit file recovered", "audit file recovered", false)
AUDIT_EVENT(LINES_LOST, "lines-lost", "\"file\"", "\"info\"", "audit lines were lost", "audit lines were lost", false)
AUDIT_EVENT(UNAUTHENTICATED, "strangers-counted", "\"web\"", "\"info\"", "calls of strangers were only counted", "calls of strangers were only counted", false)
AUDIT_EVENT(FILE_DELETED, "delete-audit-file", "\"file\"", "\"deletion\"", "audit file deleted", "audit file not deleted", false)
#undef AUDIT_ALERT
