/* AUDIT_EVENT(id, event.action, event.category, event.type, message on success, message on failure,
 *             durable: on disk before the answer)
 * Categories and types are those that the Elastic Common Schema allows together. */
AUDIT_EVENT(LOGIN, "login", "\"authentication\",\"session\"", "\"start\"", "login succeeded", "login failed", true)
AUDIT_EVENT(VALIDATE, "validate", "\"session\"", "\"info\"", "token validated", "validation failed", false)
AUDIT_EVENT(REFRESH, "refresh", "\"authentication\",\"session\"", "\"info\"", "tokens refreshed", "refresh failed", true)
AUDIT_EVENT(DEVICES, "list-devices", "\"session\"", "\"info\"", "devices listed", "listing of devices failed", false)
AUDIT_EVENT(KICK, "kick", "\"session\"", "\"end\"", "session kicked", "kick failed", true)
AUDIT_EVENT(LOGOUT, "logout", "\"session\"", "\"end\"", "logged out", "logout failed", true)
AUDIT_EVENT(LOGOUT_ALL, "logout-all", "\"session\"", "\"end\"", "logged out everywhere", "logout everywhere failed", true)
AUDIT_EVENT(USER, "show-user", "\"session\"", "\"info\"", "user shown", "showing of user failed", false)
AUDIT_EVENT(DOCUMENT, "read-document", "\"web\"", "\"access\"", "document read", "reading of document failed", false)
AUDIT_EVENT(REFUSED, "refused-request", "\"web\"", "\"error\"", "request refused", "request refused", false)
/* Put on record by the audit thread itself, about the file. */
AUDIT_EVENT(RECOVERED, "recovered", "\"file\"", "\"change\"", "audit file recovered", "audit file recovered", false)
AUDIT_EVENT(LINES_LOST, "lines-lost", "\"file\"", "\"info\"", "audit lines were lost", "audit lines were lost", false)
AUDIT_EVENT(FILE_DELETED, "delete-audit-file", "\"file\"", "\"deletion\"", "audit file deleted", "audit file not deleted", false)
