/* Risks of a configuration: logged at start, at each reload, and by check-config. */
#include "risks.h"

#include <string.h>

#include "clock.h"
#include "log.h"

enum {
    RETENTION_RECOMMENDED = 180 * DAY_S,
    AAL1_OVERALL = 30 * DAY_S, /* NIST SP 800-63B-4: reauthentication at AAL1 */
};

static bool believes_unix(const struct conf *conf)
{
    for (size_t i = 0; i < conf->server_trusted_proxies.count; i++)
        if (strcmp(conf->server_trusted_proxies.items[i], PROXY_UNIX) == 0)
            return true;
    return false;
}

void risks_warn(const struct conf *conf)
{
    if (conf->keys_encryption == ENCRYPTION_NONE)
        log_warning("records_not_encrypted", "option=keys.encryption");
    if (conf->audit_retention < RETENTION_RECOMMENDED) {
        log_warning("audit_retention_short", "days=%lld recommended=180",
                    (long long)(conf->audit_retention / DAY_S));
    }
    if (conf->policy_absolute_timeout > AAL1_OVERALL) {
        log_warning("sessions_beyond_nist_aal1",
                    "option=policy.absolute_timeout seconds=%lld recommended=%d",
                    (long long)conf->policy_absolute_timeout, AAL1_OVERALL);
    }
    if (conf->policy_bind_ip == BINDING_STRICT && conf->server_unix_socket[0] &&
        !believes_unix(conf)) {
        log_warning("bound_sessions_without_address",
                    "option=policy.bind_ip hint=\"users' own calls over server.unix_socket are "
                    "refused, since they have no address; server.trusted_proxies = unix believes "
                    "the X-Forwarded-For of who comes there\"");
    }
    if (conf->key_count == 0)
        log_warning("no_service_keys", "hint=\"no service can call; see sessiond keygen\"");
}

void risks_hint(const struct conf *conf)
{
    if (conf->policy_access_ttl > conf->policy_idle_timeout) {
        log_info(
            "access_ttl_beyond_idle_timeout",
            "access_ttl=%lld idle_timeout=%lld hint=\"clients that refresh only when expires_in "
            "is over lose sessions that were not used for idle_timeout; idle_expires_in says "
            "when\"",
            (long long)conf->policy_access_ttl, (long long)conf->policy_idle_timeout);
    }
}
