/* Risks of a configuration: told at start, at each reload, and by check-config. */
#include "risks.h"

#include "log.h"

enum {
    DAY_SECONDS = 86400,
    RETENTION_RECOMMENDED = 180 * DAY_SECONDS,
    AAL1_OVERALL = 30 * DAY_SECONDS, /* NIST SP 800-63B-4: reauthentication at AAL1 */
};

void risks_warn(const struct conf *conf)
{
    if (conf->keys_encryption == ENCRYPTION_NONE)
        log_warning("records_not_encrypted", "option=keys.encryption");
    if (conf->audit_retention < RETENTION_RECOMMENDED) {
        log_warning("audit_retention_short", "days=%lld recommended=180",
                    (long long)(conf->audit_retention / DAY_SECONDS));
    }
    if (conf->policy_absolute_timeout > AAL1_OVERALL) {
        log_warning("sessions_beyond_nist_aal1",
                    "option=policy.absolute_timeout seconds=%lld recommended=%d",
                    (long long)conf->policy_absolute_timeout, AAL1_OVERALL);
    }
    if (conf->key_count == 0)
        log_warning("no_service_keys", "hint=\"no service can call; see sessiond keygen\"");
}
