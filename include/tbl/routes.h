/* Every call that sessiond answers, and the policy that the dispatcher applies to it (src/http/exchange/routes.h explains the words).
 *
 * ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, own_key_needs, event)
 * method: exact, GET for HEAD, too; "*": any
 * path: exact except for segments in braces, which match one non-empty segment; "*" stands for every path, a last segment "*" for any path below
 * handler: api_…() in src/http/api
 * query: the parameter names that its query may have, blank-separated; NULL: any
 * access: PUBLIC, TOKEN, REFRESH, SERVICE, SERVICE_TOKEN, CLIENT, HOLDER or GATEWAY; scope: the scope that a service key needs for it
 * body: the most bytes that its body may have; 0: it has no body, -1: server.body_limit
 * rate: TENANT, OPERATORS, ENDING, AUTHZ or NOBODY, the rate that it counts against
 * ends: NOTHING, FOUND or ALL, the sessions that it ends
 * user_needs, own_key_needs: the permission that users, and a key of the tenant, need from the tenant's policy (enum permission); keys of all tenants need none
 * event: of its audit line (tbl/audit_events.h)
 *
 * DOOR(door, errors, plane, ...) is a row of a door for other software: src/http/<door> has its handler, <door>_...(). errors: PROBLEM or OAUTH, the
 * format of its errors. */
#ifndef DOOR
#define DOOR(door, errors, plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, own_key_needs, event) \
    ROUTE(plane, method, path, handler, query, access, scope, body, rate, ends, user_needs, own_key_needs, event)
#endif
ROUTE(MAIN, "POST", "/v1/login", login, "tenant", SERVICE, LOGIN, -1, TENANT, NOTHING, NONE, NONE, LOGIN)
ROUTE(MAIN, "POST", "/v1/login/verify", verify, "tenant", SERVICE, LOGIN, -1, TENANT, NOTHING, NONE, NONE, VERIFY)
ROUTE(MAIN, "GET", "/v1/validate", validate, "tenant max_age acr", TOKEN, VALIDATE, 0, TENANT, NOTHING, NONE, NONE, VALIDATE)
ROUTE(MAIN, "POST", "/v1/validate", service_validate, "tenant", SERVICE, VALIDATE, -1, TENANT, NOTHING, NONE, NONE, VALIDATE)
ROUTE(MAIN, "POST", "/v1/validate/batch", validate_batch, "tenant", SERVICE, VALIDATE, 262144, TENANT, NOTHING, NONE, NONE, VALIDATE_BATCH)
ROUTE(MAIN, "POST", "/v1/refresh", refresh, "tenant", REFRESH, LOGIN, -1, TENANT, NOTHING, NONE, NONE, REFRESH)
ROUTE(MAIN, "POST", "/v1/logout", logout, "tenant", TOKEN, MANAGE, -1, ENDING, FOUND, NONE, NONE, LOGOUT)
ROUTE(MAIN, "POST", "/v1/logout-all", logout_all, "tenant", TOKEN, MANAGE, -1, ENDING, FOUND, SELF_LOGOUT_ALL, FORCE_LOGOUT, LOGOUT_ALL)
ROUTE(MAIN, "GET", "/v1/devices", devices, "tenant", TOKEN, MANAGE, 0, TENANT, NOTHING, SELF_DEVICES, NONE, DEVICES)
ROUTE(MAIN, "DELETE", "/v1/devices/{session_id}", kick, "tenant reason", TOKEN, MANAGE, 0, ENDING, FOUND, SELF_KICK, FORCE_LOGOUT, KICK)
ROUTE(MAIN, "GET", "/v1/users/{user_id}", user, "user_id tenant", SERVICE, MANAGE, 0, TENANT, NOTHING, NONE, NONE, USER)
ROUTE(MAIN, "GET", "/v1/users/{user_id}/devices", user_devices, "user_id tenant", SERVICE, MANAGE, 0, TENANT, NOTHING, NONE, NONE, DEVICES)
ROUTE(MAIN, "GET", "/v1/users/{user_id}/history", history, "user_id tenant", SERVICE, MANAGE, 0, TENANT, NOTHING, NONE, NONE, HISTORY)
ROUTE(MAIN, "DELETE", "/v1/users/{user_id}/devices/{session_id}", user_kick, "user_id tenant reason", SERVICE, MANAGE, 0, ENDING, FOUND, NONE, FORCE_LOGOUT, KICK)
ROUTE(MAIN, "POST", "/v1/users/{user_id}/freeze", freeze, "user_id tenant", SERVICE, MANAGE, -1, ENDING, ALL, NONE, FORCE_LOGOUT, FREEZE)
ROUTE(MAIN, "POST", "/v1/users/{user_id}/unfreeze", unfreeze, "user_id tenant", SERVICE, MANAGE, -1, TENANT, NOTHING, NONE, FORCE_LOGOUT, UNFREEZE)
ROUTE(MAIN, "POST", "/v1/users/{user_id}/logout-all", user_logout_all, "user_id tenant", SERVICE, MANAGE, -1, ENDING, FOUND, NONE, FORCE_LOGOUT, LOGOUT_ALL)
ROUTE(MAIN, "GET", "/v1/tenants/{tenant}/sessions", tenant_sessions, "page_size page_token", SERVICE, MANAGE, 0, TENANT, NOTHING, NONE, NONE, TENANT_SESSIONS)
ROUTE(MAIN, "GET", "/v1/session/attributes", attributes, "tenant", TOKEN, MANAGE, 0, TENANT, NOTHING, NONE, NONE, ATTRIBUTES)
ROUTE(MAIN, "PUT", "/v1/session/attributes", put_attributes, "tenant", TOKEN, MANAGE, -1, TENANT, NOTHING, NONE, NONE, SET_ATTRIBUTES)
ROUTE(MAIN, "PATCH", "/v1/session/attributes", patch_attributes, "tenant", TOKEN, MANAGE, -1, TENANT, NOTHING, NONE, NONE, SET_ATTRIBUTES)
ROUTE(MAIN, "POST", "/v1/session/authenticated", authenticated, "tenant", SERVICE_TOKEN, LOGIN, -1, TENANT, NOTHING, NONE, NONE, AUTHENTICATED)
ROUTE(MAIN, "GET", "/v1/tenants/{tenant}/policy", policy, "", SERVICE, POLICY, 0, OPERATORS, NOTHING, NONE, NONE, POLICY)
ROUTE(MAIN, "PUT", "/v1/tenants/{tenant}/policy", set_policy, "", SERVICE, POLICY, -1, OPERATORS, NOTHING, NONE, NONE, SET_POLICY)
ROUTE(MAIN, "PATCH", "/v1/tenants/{tenant}/policy", patch_policy, "", SERVICE, POLICY, -1, OPERATORS, NOTHING, NONE, NONE, SET_POLICY)
ROUTE(MAIN, "DELETE", "/v1/tenants/{tenant}/policy", delete_policy, "", SERVICE, POLICY, 0, OPERATORS, NOTHING, NONE, NONE, SET_POLICY)
ROUTE(MAIN, "POST", "/v1/tenants/{tenant}/logout-all", tenant_logout_all, "", SERVICE, POLICY, -1, ENDING, ALL, NONE, FORCE_LOGOUT, TENANT_LOGOUT_ALL)
/* The preflight of every path: a browser asks whether a page may call. */
ROUTE(MAIN, "OPTIONS", "*", preflight, NULL, PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, PREFLIGHT)
ROUTE(MAIN, "POST", "/v1/explain", explain, "tenant", SERVICE, MANAGE, -1, TENANT, NOTHING, NONE, NONE, EXPLAIN)
/* Gateways ask for a verdict on a request of theirs: the "original" one. */
DOOR(authz, PROBLEM, MAIN, "*", "/authz/forward-auth", forward_auth, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
DOOR(authz, PROBLEM, MAIN, "*", "/authz/forward-auth/{settings}", forward_auth, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
DOOR(authz, PROBLEM, MAIN, "*", "/authz/auth-request", auth_request, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
DOOR(authz, PROBLEM, MAIN, "*", "/authz/auth-request/{settings}", auth_request, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
DOOR(authz, PROBLEM, MAIN, "*", "/authz/ext-authz/{settings}", ext_authz, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
DOOR(authz, PROBLEM, MAIN, "*", "/authz/ext-authz/{settings}/*", ext_authz, NULL, GATEWAY, NONE, 0, AUTHZ, NOTHING, NONE, NONE, AUTHZ)
ROUTE(MAIN, "GET", "/problems/{code}", problem, "", PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
ROUTE(MAIN, "GET", "/openapi.json", openapi, "", PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
ROUTE(OPS, "GET", "/livez", livez, NULL, PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
ROUTE(OPS, "GET", "/readyz", readyz, NULL, PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
ROUTE(OPS, "GET", "/metrics", metrics, NULL, PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
ROUTE(OPS, "GET", "/version", version, NULL, PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
/* Doors. */
DOOR(oauth, PROBLEM, MAIN, "GET", "/.well-known/jwks.json", jwks, "", PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
DOOR(oauth, OAUTH, MAIN, "POST", "/oauth2/introspect", introspect, "", CLIENT, INTROSPECT, -1, TENANT, NOTHING, NONE, NONE, INTROSPECT)
DOOR(oauth, OAUTH, MAIN, "POST", "/oauth2/revoke", revoke, "", HOLDER, INTROSPECT, -1, ENDING, FOUND, NONE, NONE, REVOKE)
DOOR(oauth, OAUTH, MAIN, "POST", "/oauth2/token", token, "", HOLDER, LOGIN, -1, TENANT, NOTHING, NONE, NONE, REFRESH)
DOOR(oauth, PROBLEM, MAIN, "GET", "/.well-known/oauth-authorization-server", metadata, "", PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
DOOR(oauth, PROBLEM, MAIN, "GET", "/.well-known/openid-configuration", metadata, "", PUBLIC, NONE, 0, NOBODY, NOTHING, NONE, NONE, DOCUMENT)
#undef ROUTE
#undef DOOR
