/* Every member of a tenant's policy (policy.h): how it is read, checked and printed, its default, and who may override
 * it. The rules below also name the contradictions, in a policy as in the configuration.
 *
 * POLICY_MEMBER(kind, path, field, option, bit, say)
 * kind: SECONDS, INT, BYTES  a whole number, within the bounds of the option
 *       ENUM                 one of the option's words
 *       FLAGS                an array of the option's words
 *       BOOL                 true or false
 *       FLAG                 true or false, in the configuration one bit of the option
 * path: names in the JSON object, a dot between them; members of one object stand together
 * field: of struct policy, in the unit of the option; option: field of struct conf that holds the default
 * say: SMALLEST, LARGEST  roles and device types may set it; of several values the smallest or largest wins
 *      TENANT             roles and device types may not set it
 *      PLATFORM           nor may keys of one tenant: it protects other tenants, or limits these keys
 *
 * POLICY_ORDER(shorter, longer, strictly)  fields: a time that must be shorter than another, or no longer than it
 * POLICY_LIMIT(field, limit)               fields: a time, and the platform's bound; a tenant that sets a longer one is
 *                                          refused, an existing longer one is cut to the bound
 * POLICY_NEEDS(field, other)               if the first is not 0, the other must not be 0 either */
#ifndef POLICY_MEMBER
#define POLICY_MEMBER(kind, path, field, option, bit, say)
#endif
#ifndef POLICY_ORDER
#define POLICY_ORDER(shorter, longer, strictly)
#endif
#ifndef POLICY_LIMIT
#define POLICY_LIMIT(field, limit)
#endif
#ifndef POLICY_NEEDS
#define POLICY_NEEDS(field, other)
#endif
POLICY_MEMBER(SECONDS, "access_ttl", access_ttl, policy_access_ttl, 0, SMALLEST)
POLICY_MEMBER(SECONDS, "refresh_ttl", refresh_ttl, policy_refresh_ttl, 0, SMALLEST)
POLICY_MEMBER(SECONDS, "idle_timeout", idle_timeout, policy_idle_timeout, 0, SMALLEST)
POLICY_MEMBER(SECONDS, "absolute_timeout", absolute_timeout, policy_absolute_timeout, 0, SMALLEST)
POLICY_MEMBER(ENUM, "renew", renew, policy_renew, 0, LARGEST)
POLICY_MEMBER(INT, "max_devices", max_devices, policy_max_devices, 0, SMALLEST)
POLICY_MEMBER(ENUM, "overflow", overflow, policy_overflow, 0, TENANT)
POLICY_MEMBER(ENUM, "exclusive", exclusive, policy_exclusive, 0, TENANT)
POLICY_MEMBER(SECONDS, "refresh_grace", refresh_grace, policy_refresh_grace, 0, TENANT)
POLICY_MEMBER(ENUM, "refresh_repeat", refresh_repeat, policy_refresh_repeat, 0, TENANT)
POLICY_MEMBER(ENUM, "bind.ip", bind_ip, policy_bind_ip, 0, TENANT)
POLICY_MEMBER(ENUM, "bind.device", bind_device, policy_bind_device, 0, TENANT)
POLICY_MEMBER(FLAGS, "verify.on", verify_on, policy_verify_on, 0, TENANT)
POLICY_MEMBER(ENUM, "verify.method", verify_method, policy_verify_method, 0, TENANT)
POLICY_MEMBER(FLAG, "self_service.devices", self_devices, policy_self_service, SELF_DEVICES, TENANT)
POLICY_MEMBER(FLAG, "self_service.kick", self_kick, policy_self_service, SELF_KICK, TENANT)
POLICY_MEMBER(FLAG, "self_service.logout_all", self_logout_all, policy_self_service, SELF_LOGOUT_ALL, TENANT)
POLICY_MEMBER(SECONDS, "fresh.kick", fresh_kick, policy_fresh_kick, 0, TENANT)
POLICY_MEMBER(SECONDS, "fresh.logout_all", fresh_logout_all, policy_fresh_logout_all, 0, TENANT)
POLICY_MEMBER(BOOL, "force_logout", force_logout, policy_force_logout, 0, PLATFORM)
POLICY_MEMBER(INT, "rate.requests_per_second", requests_per_second, policy_requests_per_second, 0, PLATFORM)
POLICY_MEMBER(INT, "rate.burst", burst, policy_burst, 0, PLATFORM)
POLICY_MEMBER(INT, "rate.logins_per_user_per_minute", logins_per_user_per_minute, policy_logins_per_user_per_minute, 0, PLATFORM)
POLICY_MEMBER(INT, "rate.authz", authz_per_second, policy_authz_per_second, 0, PLATFORM)
POLICY_MEMBER(SECONDS, "limits.access_ttl", limit_access_ttl, policy_limit_access_ttl, 0, PLATFORM)
POLICY_MEMBER(SECONDS, "limits.refresh_ttl", limit_refresh_ttl, policy_limit_refresh_ttl, 0, PLATFORM)
POLICY_MEMBER(SECONDS, "limits.idle_timeout", limit_idle_timeout, policy_limit_idle_timeout, 0, PLATFORM)
POLICY_MEMBER(SECONDS, "limits.absolute_timeout", limit_absolute_timeout, policy_limit_absolute_timeout, 0, PLATFORM)
POLICY_MEMBER(BYTES, "limits.session_bytes", limit_session_bytes, policy_limit_session_bytes, 0, PLATFORM)
POLICY_MEMBER(INT, "quota.users", quota_users, policy_quota_users, 0, PLATFORM)
POLICY_MEMBER(INT, "quota.sessions", quota_sessions, policy_quota_sessions, 0, PLATFORM)
POLICY_MEMBER(BYTES, "cache_quota", cache_quota, cache_tenant_bytes, 0, PLATFORM)
POLICY_MEMBER(SECONDS, "outage_grace", outage_grace, outage_grace, 0, TENANT)
POLICY_MEMBER(ENUM, "same_site", same_site, policy_same_site, 0, TENANT)
POLICY_LIMIT(access_ttl, limit_access_ttl)
POLICY_LIMIT(refresh_ttl, limit_refresh_ttl)
POLICY_LIMIT(idle_timeout, limit_idle_timeout)
POLICY_LIMIT(absolute_timeout, limit_absolute_timeout)
POLICY_ORDER(access_ttl, refresh_ttl, false)
POLICY_ORDER(access_ttl, absolute_timeout, false)
POLICY_ORDER(idle_timeout, absolute_timeout, false)
POLICY_ORDER(refresh_grace, access_ttl, true)
POLICY_NEEDS(burst, requests_per_second)
#undef POLICY_MEMBER
#undef POLICY_ORDER
#undef POLICY_LIMIT
#undef POLICY_NEEDS
