/* Converts between tenants and their records. */
#include "tenant_record.h"

#include <assert.h>
#include <string.h>

static const uint8_t no_session[SESSION_ID];

static struct user_tag owner_of(const uint8_t tag[TENANT_TAG])
{
    struct user_tag owner = {0};
    memcpy(owner.tenant, tag, TENANT_TAG);
    return owner;
}

void tenant_record_write(const struct keyring *keyring, bool encrypt, const uint8_t tag[TENANT_TAG],
                         const struct tenant *tenant, struct buffer *out)
{
    struct user_tag owner = owner_of(tag);
    struct tenant_record record = {
        .version = tenant->version,
        .not_before_ms = tenant->not_before_ms,
        .ended_s = tenant->ended_s,
        .reason = tenant->reason,
        .actor = tenant->actor,
    };
    if (tenant->policy)
        record.policy = policy_json(tenant->policy);
    record_write_tenant(keyring, encrypt, (struct record_position){&owner, no_session}, &record,
                        out);
}

static struct tenant *tenant_of_record(const struct tenant_record *record)
{
    struct tenant content = {
        .version = record->version,
        .not_before_ms = record->not_before_ms,
        .ended_s = record->ended_s,
        .reason = record->reason,
        .actor = record->actor,
    };
    if (record->policy.length > 0) {
        struct buffer error = {0};
        content.policy = policy_restore(record->policy, &error);
        buffer_free(&error);
        if (!content.policy)
            return NULL;
    }
    return tenant_state_create(&content);
}

struct tenant *tenant_record_read(const struct keyring *keyring, bool encrypt,
                                  const uint8_t tag[TENANT_TAG], struct text stored,
                                  struct arena *arena)
{
    struct user_tag owner = owner_of(tag);
    struct record_content content;
    struct record_position place = {&owner, no_session};
    if (record_read(keyring, encrypt, place, stored, arena, &content) != RECORD_TENANT)
        return NULL;
    return tenant_of_record(&content.tenant);
}
