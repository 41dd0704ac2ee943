"""Every route: whose credential it takes, and what is answered to whom."""


def token_body(scene):
    return {"token": scene.first["access_token"]}


# Calls of the doors for other software (DOOR in the table), which have tests of their own: (method, path) -> the file.
DOORS = {
    ("GET", "/.well-known/jwks.json"): "test_signed_identity.py",
    ("*", "/authz/forward-auth"): "test_authz.py",
    ("*", "/authz/forward-auth/{settings}"): "test_authz.py",
    ("*", "/authz/auth-request"): "test_authz.py",
    ("*", "/authz/auth-request/{settings}"): "test_authz.py",
    ("*", "/authz/ext-authz/{settings}"): "test_authz.py",
    ("*", "/authz/ext-authz/{settings}/*"): "test_authz.py",
    ("POST", "/oauth2/introspect"): "test_oauth.py",
    ("POST", "/oauth2/revoke"): "test_oauth.py",
    ("POST", "/oauth2/token"): "test_oauth.py",
    ("GET", "/.well-known/oauth-authorization-server"): "test_oauth.py",
    ("GET", "/.well-known/openid-configuration"): "test_oauth.py",
}

# (method, path) -> (whose credential it takes, scope, body, status of the own tenant's key,
#                    status of the user's own token)
#   service: a service key; the tenant is the key's, or named by ?tenant= or in the path
#   token:   a user's token (unless its status is 403), or a service key with X-Session-Token
#   refresh: the token in the body
#   public:  anybody
ROUTES = {
    ("POST", "/v1/login"): ("service", "login", lambda s: {"user_id": s.user}, 201, 403),
    ("POST", "/v1/login/verify"):
        ("service", "login", lambda s: {"challenge_id": s.challenge, "code": "123456"}, 410, 403),
    ("GET", "/v1/validate"): ("token", "validate", None, 200, 200),
    ("POST", "/v1/validate"): ("service", "validate", token_body, 200, 403),
    ("POST", "/v1/validate/batch"):
        ("service", "validate", lambda s: {"tokens": [s.first["access_token"]]}, 200, 403),
    ("POST", "/v1/refresh"):
        ("refresh", "login", lambda s: {"refresh_token": s.first["refresh_token"]}, 200, 403),
    ("POST", "/v1/logout"): ("token", "manage", None, 200, 200),
    ("POST", "/v1/logout-all"): ("token", "manage", lambda s: {}, 200, 200),
    ("GET", "/v1/devices"): ("token", "manage", None, 200, 200),
    ("DELETE", "/v1/devices/{session_id}"): ("token", "manage", None, 200, 200),
    ("GET", "/v1/users/{user_id}"): ("service", "manage", None, 200, 403),
    ("GET", "/v1/users/{user_id}/devices"): ("service", "manage", None, 200, 403),
    ("GET", "/v1/users/{user_id}/history"): ("service", "manage", None, 200, 403),
    ("DELETE", "/v1/users/{user_id}/devices/{session_id}"): ("service", "manage", None, 200, 403),
    ("POST", "/v1/users/{user_id}/freeze"): ("service", "manage", lambda s: {}, 200, 403),
    ("POST", "/v1/users/{user_id}/unfreeze"): ("service", "manage", lambda s: {}, 200, 403),
    ("POST", "/v1/users/{user_id}/logout-all"): ("service", "manage", lambda s: {}, 200, 403),
    ("GET", "/v1/session/attributes"): ("token", "manage", None, 200, 200),
    ("PUT", "/v1/session/attributes"): ("token", "manage", lambda s: {"note": "new"}, 200, 200),
    ("PATCH", "/v1/session/attributes"): ("token", "manage", lambda s: {"note": "new"}, 200, 200),
    ("POST", "/v1/session/authenticated"): ("token", "login", lambda s: {}, 200, 403),
    ("GET", "/v1/tenants/{tenant}/policy"): ("service", "policy", None, 200, 403),
    ("PUT", "/v1/tenants/{tenant}/policy"): ("service", "policy", lambda s: {}, 200, 403),
    ("PATCH", "/v1/tenants/{tenant}/policy"): ("service", "policy", lambda s: {}, 200, 403),
    ("DELETE", "/v1/tenants/{tenant}/policy"): ("service", "policy", None, 200, 403),
    ("GET", "/v1/tenants/{tenant}/sessions"): ("service", "manage", None, 200, 403),
    ("POST", "/v1/tenants/{tenant}/logout-all"): ("service", "policy", lambda s: {}, 200, 403),
    ("POST", "/v1/explain"): ("service", "manage", token_body, 200, 403),
    ("GET", "/problems/{code}"): ("public", None, None, 200, 200),
    ("GET", "/openapi.json"): ("public", None, None, 200, 200),
    ("OPTIONS", "*"): ("public", None, None, 403, 403),  # of a foreign origin
}
