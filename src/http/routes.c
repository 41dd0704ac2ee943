/* Every call that sessiond answers: one row each. */

#include "routes.h"

#include "handlers.h"

const struct route routes[] = {
    /* plane, method, path, handler, query, access, scope, body limit, audit event, audited */
    {PLANE_MAIN, "POST", "/v1/login", handle_login, "tenant", ACCESS_SERVICE, SCOPE_LOGIN, -1,
     AUDIT_LOGIN, true},
    {PLANE_MAIN, "POST", "/v1/login/verify", handle_verify, "tenant", ACCESS_SERVICE, SCOPE_LOGIN,
     -1, AUDIT_VERIFY, true},
    {PLANE_MAIN, "GET", "/v1/validate", handle_validate, "tenant", ACCESS_TOKEN, SCOPE_VALIDATE, 0,
     AUDIT_VALIDATE, true},
    {PLANE_MAIN, "POST", "/v1/validate", handle_service_validate, "tenant", ACCESS_SERVICE,
     SCOPE_VALIDATE, -1, AUDIT_VALIDATE, true},
    {PLANE_MAIN, "POST", "/v1/refresh", handle_refresh, "tenant", ACCESS_REFRESH, SCOPE_LOGIN, -1,
     AUDIT_REFRESH, true},
    {PLANE_MAIN, "POST", "/v1/logout", handle_logout, "tenant", ACCESS_TOKEN, SCOPE_MANAGE, -1,
     AUDIT_LOGOUT, true},
    {PLANE_MAIN, "POST", "/v1/logout-all", handle_logout_all, "tenant", ACCESS_TOKEN, SCOPE_MANAGE,
     -1, AUDIT_LOGOUT_ALL, true},
    {PLANE_MAIN, "GET", "/v1/devices", handle_devices, "tenant", ACCESS_TOKEN, SCOPE_MANAGE, 0,
     AUDIT_DEVICES, true},
    {PLANE_MAIN, "DELETE", "/v1/devices/{session_id}", handle_kick, "tenant reason", ACCESS_TOKEN,
     SCOPE_MANAGE, 0, AUDIT_KICK, true},
    {PLANE_MAIN, "GET", "/v1/users/{user_id}", handle_user, "tenant", ACCESS_SERVICE, SCOPE_MANAGE,
     0, AUDIT_USER, true},
    {PLANE_MAIN, "GET", "/v1/users/{user_id}/devices", handle_user_devices, "tenant",
     ACCESS_SERVICE, SCOPE_MANAGE, 0, AUDIT_DEVICES, true},
    {PLANE_MAIN, "DELETE", "/v1/users/{user_id}/devices/{session_id}", handle_user_kick,
     "tenant reason", ACCESS_SERVICE, SCOPE_MANAGE, 0, AUDIT_KICK, true},
    {PLANE_MAIN, "POST", "/v1/users/{user_id}/freeze", handle_freeze, "tenant", ACCESS_SERVICE,
     SCOPE_MANAGE, -1, AUDIT_FREEZE, true},
    {PLANE_MAIN, "POST", "/v1/users/{user_id}/unfreeze", handle_unfreeze, "tenant", ACCESS_SERVICE,
     SCOPE_MANAGE, -1, AUDIT_UNFREEZE, true},
    {PLANE_MAIN, "POST", "/v1/users/{user_id}/logout-all", handle_user_logout_all, "tenant",
     ACCESS_SERVICE, SCOPE_MANAGE, -1, AUDIT_LOGOUT_ALL, true},

    {PLANE_MAIN, "GET", "/v1/tenants/{tenant}/sessions", handle_tenant_sessions,
     "page_size page_token", ACCESS_SERVICE, SCOPE_MANAGE, 0, AUDIT_TENANT_SESSIONS, true},
    {PLANE_MAIN, "GET", "/v1/session/attributes", handle_attributes, "tenant", ACCESS_TOKEN,
     SCOPE_MANAGE, 0, AUDIT_ATTRIBUTES, true},
    {PLANE_MAIN, "PUT", "/v1/session/attributes", handle_put_attributes, "tenant", ACCESS_TOKEN,
     SCOPE_MANAGE, -1, AUDIT_SET_ATTRIBUTES, true},
    {PLANE_MAIN, "PATCH", "/v1/session/attributes", handle_patch_attributes, "tenant", ACCESS_TOKEN,
     SCOPE_MANAGE, -1, AUDIT_SET_ATTRIBUTES, true},
    {PLANE_MAIN, "GET", "/v1/tenants/{tenant}/policy", handle_policy, "", ACCESS_SERVICE,
     SCOPE_POLICY, 0, AUDIT_POLICY, true},
    {PLANE_MAIN, "PUT", "/v1/tenants/{tenant}/policy", handle_set_policy, "", ACCESS_SERVICE,
     SCOPE_POLICY, -1, AUDIT_SET_POLICY, true},
    {PLANE_MAIN, "PATCH", "/v1/tenants/{tenant}/policy", handle_patch_policy, "", ACCESS_SERVICE,
     SCOPE_POLICY, -1, AUDIT_SET_POLICY, true},
    {PLANE_MAIN, "DELETE", "/v1/tenants/{tenant}/policy", handle_delete_policy, "", ACCESS_SERVICE,
     SCOPE_POLICY, 0, AUDIT_SET_POLICY, true},
    {PLANE_MAIN, "POST", "/v1/tenants/{tenant}/logout-all", handle_tenant_logout_all, "",
     ACCESS_SERVICE, SCOPE_POLICY, -1, AUDIT_TENANT_LOGOUT_ALL, true},

    /* Stands for every path when a browser asks whether a page may call. */
    {PLANE_MAIN, "OPTIONS", "*", handle_preflight, NULL, ACCESS_PUBLIC, 0, 0, AUDIT_PREFLIGHT,
     true},
    {PLANE_MAIN, "POST", "/v1/explain", handle_explain, "tenant", ACCESS_SERVICE, SCOPE_MANAGE, -1,
     AUDIT_EXPLAIN, true},

    {PLANE_MAIN, "GET", "/problems/{code}", handle_problem, "", ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT,
     true},

    {PLANE_OPS, "GET", "/livez", handle_livez, NULL, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
    {PLANE_OPS, "GET", "/readyz", handle_readyz, NULL, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT, false},
    {PLANE_OPS, "GET", "/metrics", handle_metrics, NULL, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT,
     false},
    {PLANE_OPS, "GET", "/version", handle_version, NULL, ACCESS_PUBLIC, 0, 0, AUDIT_DOCUMENT,
     false},
};

const size_t route_count = sizeof(routes) / sizeof(routes[0]);
