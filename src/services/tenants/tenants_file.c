/* The table of tenants on disk, as a sealed file of entries:
 *
 *     entry  tag 6, wall-clock time of verification in ms 8, version 8, not before in ms 8, ended
 * in s 8, lengths of reason 1, actor 1 and policy 2, and these
 *
 * Numbers are big-endian. The policy is the tenant's settings as JSON; length 0: none. */
#include <assert.h>

#include "bytes.h"
#include "clock.h"
#include "services/files/sealed_file.h"
#include "tenants_private.h"

enum { NUMBERS = 4, ENTRY_HEAD = TENANT_TAG + 8 * NUMBERS + 1 + 1 + 2 };

static const struct sealed_kind kind = {"sdtenant", 1, {"tenants snapshot", 16}, "the tenants"};
static_assert(ENTRY_HEAD + 2 * UINT8_MAX < SEALED_CHUNK - INT16_MAX, "room for long policies");

/* --- writing --- */

struct saving {
    struct tenants *tenants;
    struct sealed_writer *writer;
    int64_t wall_offset_ms; /* to be added to monotonic times */
};

static void write_row(void *user, const uint8_t tag[TENANT_TAG], const struct tenant_row *row)
{
    const struct saving *saving = user;
    const struct tenant *tenant = row->tenant;
    struct text policy = tenant->policy ? policy_json(tenant->policy) : (struct text){0};
    size_t length = ENTRY_HEAD + tenant->reason.length + tenant->actor.length + policy.length;
    int64_t verified_ms;
    if (__builtin_add_overflow(row->verified_ms, saving->wall_offset_ms, &verified_ms) ||
        tenant->reason.length > UINT8_MAX || tenant->actor.length > UINT8_MAX ||
        policy.length > UINT16_MAX || length > SEALED_CHUNK)
        return; /* this service never stores such a row */
    struct buffer *plain = sealed_file_entry(saving->writer, length);
    if (!plain)
        return;
    buffer_add(plain, tag, TENANT_TAG);
    bytes_add(plain, (uint64_t)verified_ms, 8);
    bytes_add(plain, (uint64_t)tenant->version, 8);
    bytes_add(plain, (uint64_t)tenant->not_before_ms, 8);
    bytes_add(plain, (uint64_t)tenant->ended_s, 8);
    bytes_add(plain, tenant->reason.length, 1);
    bytes_add(plain, tenant->actor.length, 1);
    bytes_add(plain, policy.length, 2);
    buffer_add_text(plain, tenant->reason);
    buffer_add_text(plain, tenant->actor);
    buffer_add_text(plain, policy);
}

static void write_rows(void *user, struct sealed_writer *writer)
{
    struct saving *saving = user;
    saving->writer = writer;
    tenants_each(saving->tenants, write_row, saving);
}

bool tenants_save(struct tenants *tenants, struct keyring *keyring, const char *path,
                  struct buffer *error)
{
    struct saving saving = {.tenants = tenants,
                            .wall_offset_ms = clock_file_ms() - clock_boot_ms()};
    return sealed_file_save(&kind, keyring, path, write_rows, &saving, error);
}

/* --- reading --- */

struct loading {
    struct tenants *tenants;
    int64_t now_ms;
    size_t stored;
};

struct entry {
    uint8_t tag[TENANT_TAG];
    int64_t verified_ms;
    struct tenant tenant;
    struct text policy;
};

static bool read_entry(struct cursor *entries, struct entry *ret)
{
    *ret = (struct entry){0};
    bytes_copy(entries, ret->tag, TENANT_TAG);
    ret->verified_ms = (int64_t)bytes_number(entries, 8);
    ret->tenant.version = (int64_t)bytes_number(entries, 8);
    ret->tenant.not_before_ms = (int64_t)bytes_number(entries, 8);
    ret->tenant.ended_s = (int64_t)bytes_number(entries, 8);
    size_t reason = bytes_number(entries, 1), actor = bytes_number(entries, 1);
    size_t policy = bytes_number(entries, 2);
    ret->tenant.reason = bytes_take(entries, reason);
    ret->tenant.actor = bytes_take(entries, actor);
    ret->policy = bytes_take(entries, policy);
    return !entries->broken;
}

/* False if the policy's text is none. */
static bool restore_policy(struct entry *entry)
{
    struct buffer error = {0};
    if (entry->policy.length == 0)
        return true;
    entry->tenant.policy = policy_restore(entry->policy, &error);
    buffer_free(&error);
    return entry->tenant.policy != NULL;
}

static void load_row(struct loading *loading, const struct entry *entry)
{
    int64_t age_ms;
    if (!sealed_file_age_ms(entry->verified_ms, &age_ms))
        age_ms = INT32_MAX; /* unknown age; better than none, since Redis is asked first */
    bool is_nothing = entry->tenant.version == 0 && !entry->tenant.policy;
    struct tenant *tenant =
        is_nothing ? tenant_state_nothing() : tenant_state_create(&entry->tenant);
    loading->stored +=
        tenants_put_absent(loading->tenants, entry->tag, tenant, loading->now_ms - age_ms);
    tenant_state_unref(&tenant);
}

static bool load_rows(void *user, struct text entries)
{
    struct loading *loading = user;
    struct cursor left = {entries.data, entries.length, false};
    while (left.left > 0) {
        struct entry entry;
        if (!read_entry(&left, &entry) || !restore_policy(&entry))
            return false;
        load_row(loading, &entry);
    }
    return true;
}

bool tenants_load(struct tenants *tenants, const struct keyring *keyring, const char *path,
                  size_t *loaded, struct buffer *error)
{
    struct loading loading = {.tenants = tenants, .now_ms = clock_boot_ms()};
    bool whole = sealed_file_load(&kind, keyring, path, load_rows, &loading, error);
    *loaded = loading.stored;
    return whole;
}
