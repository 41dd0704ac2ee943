/* Converts between tenants and their records. */
#include "tenant_record.h"

#include <assert.h>
#include <string.h>

#define PREFIX "sd:p:{"

enum { TAG_DIGITS = 8 };

static const uint8_t no_session[SESSION_ID];

void tenant_record_key(const uint8_t tag[TENANT_TAG], char ret[TENANT_KEY_LENGTH])
{
    size_t at = sizeof(PREFIX) - 1;
    memcpy(ret, PREFIX, at);
    at += text_to_base64url(ret + at, tag, TENANT_TAG);
    ret[at++] = '}';
    assert(at == TENANT_KEY_LENGTH);
}

bool tenant_record_key_read(struct text key, uint8_t tag[TENANT_TAG])
{
    const size_t prefix = sizeof(PREFIX) - 1;
    return key.length == TENANT_KEY_LENGTH && memcmp(key.data, PREFIX, prefix) == 0 &&
           key.data[TENANT_KEY_LENGTH - 1] == '}' &&
           text_from_base64url(tag, TENANT_TAG, (struct text){key.data + prefix, TAG_DIGITS});
}

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
