/* Cache values: written after a read of Redis, opened at each hit. */
#include "cache_value.h"

#include <assert.h>
#include <string.h>

#include "clock.h"
#include "freshness.h"
#include "operation.h"
#include "session/model/session_json.h"

/* --- writing --- */

static struct cache_value_piece piece_of(struct text session_json, struct text part)
{
    if (!part.data)
        return (struct cache_value_piece){0};
    bool escaped = memchr(part.data, '\\', part.length) != NULL;
    return (struct cache_value_piece){(uint16_t)(part.data - session_json.data),
                                      escaped ? CACHE_VALUE_ESCAPED : (uint16_t)part.length};
}

static void find_pieces(struct cache_value_active *head, struct text session_json)
{
    struct session_json_strings strings;
    session_json_find_strings(session_json, &strings);
    head->tenant = piece_of(session_json, strings.names.tenant);
    head->user_id = piece_of(session_json, strings.names.user_id);
    head->device_id = piece_of(session_json, strings.device_id);
    head->device_type = piece_of(session_json, strings.device_type);
}

static uint32_t in_32_bits(int64_t seconds)
{
    return seconds < 0 ? 0 : seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
}

void cache_value_write_active(struct buffer *out, const struct session *session, unsigned slot,
                              int64_t version, struct text session_json, const struct text *items)
{
    const struct record *record = &session->record;
    struct cache_value_active head = {
        .kind = CACHE_VALUE_ACTIVE,
        .slot = (uint16_t)slot,
        .version = version,
        .issued_ms = record->issued_ms,
        .absolute_s = in_32_bits(record->absolute_s),
        .last_seen_s = in_32_bits(session->last_seen_s),
    };
    head.flags |= record->remember ? CACHE_VALUE_REMEMBER : 0;
    head.flags |= record->has_previous ? CACHE_VALUE_PREVIOUS : 0;
    head.flags |= record->previous_access_over ? CACHE_VALUE_PREVIOUS_OVER : 0;
    head.flags |= items ? CACHE_VALUE_BOUND : 0;
    head.flags |= record->began_s > 0 ? CACHE_VALUE_BEGAN : 0;
    uint32_t began_s = in_32_bits(record->began_s);
    memcpy(head.access_hash, record->access_hash, SECRET_HASH);
    find_pieces(&head, session_json);
    buffer_add(out, &head, sizeof(head));
    if (head.flags & CACHE_VALUE_BEGAN)
        buffer_add(out, &began_s, sizeof(began_s));
    if (record->has_previous)
        buffer_add(out, record->previous_access_hash, SECRET_HASH);
    if (items) {
        uint16_t length = (uint16_t)items->length;
        buffer_add(out, &length, sizeof(length));
        buffer_add_text(out, *items);
    }
    buffer_add_text(out, session_json);
}

void cache_value_owe_touch(struct buffer *value)
{
    assert(cache_value_kind(buffer_text(value)) == CACHE_VALUE_ACTIVE);
    const bool owed = true;
    memcpy(value->data + offsetof(struct cache_value_active, touch_owed), &owed, sizeof(owed));
}

void cache_value_write_ended(struct buffer *out, const struct tombstone *tombstone)
{
    struct cache_value_ended head = {
        .kind = CACHE_VALUE_ENDED,
        .reason_length = (uint8_t)tombstone->reason.length,
        .actor_length = (uint8_t)tombstone->actor.length,
        .ended_s = tombstone->ended_s,
    };
    buffer_add(out, &head, sizeof(head));
    buffer_add(out, tombstone->reason.data, head.reason_length);
    buffer_add(out, tombstone->actor.data, head.actor_length);
}

void cache_value_write_names(struct buffer *out, const struct names *names)
{
    struct cache_value_names head = {
        .kind = CACHE_VALUE_NAMES,
        .tenant_length = (uint8_t)names->tenant.length,
        .user_id_length = (uint8_t)names->user_id.length,
    };
    buffer_add(out, &head, sizeof(head));
    buffer_add(out, names->tenant.data, head.tenant_length);
    buffer_add(out, names->user_id.data, head.user_id_length);
}

/* --- opening --- */

enum cache_value_kind cache_value_kind(struct text value)
{
    if (value.length >= sizeof(struct cache_value_active) && value.data[0] == CACHE_VALUE_ACTIVE)
        return CACHE_VALUE_ACTIVE;
    if (value.length >= sizeof(struct cache_value_ended) && value.data[0] == CACHE_VALUE_ENDED)
        return CACHE_VALUE_ENDED;
    if (value.length >= sizeof(struct cache_value_names) && value.data[0] == CACHE_VALUE_NAMES)
        return CACHE_VALUE_NAMES;
    return 0;
}

void cache_value_read_ended(struct text value, struct tombstone *ret)
{
    assert(cache_value_kind(value) == CACHE_VALUE_ENDED);
    struct cache_value_ended head;
    memcpy(&head, value.data, sizeof(head));
    const char *words = value.data + sizeof(head);
    size_t length = value.length - sizeof(head);
    *ret = (struct tombstone){.ended_s = head.ended_s};
    if ((size_t)head.reason_length + head.actor_length > length)
        return;
    if (head.reason_length)
        ret->reason = (struct text){words, head.reason_length};
    if (head.actor_length)
        ret->actor = (struct text){words + head.reason_length, head.actor_length};
}

bool cache_value_read_names(struct text value, struct names *ret)
{
    struct cache_value_names head;
    *ret = (struct names){0};
    if (cache_value_kind(value) != CACHE_VALUE_NAMES)
        return false;
    memcpy(&head, value.data, sizeof(head));
    const char *words = value.data + sizeof(head);
    if ((size_t)head.tenant_length + head.user_id_length != value.length - sizeof(head))
        return false;
    if (head.user_id_length > 0)
        *ret = (struct names){{words, head.tenant_length},
                              {words + head.tenant_length, head.user_id_length}};
    return true;
}

/* Reads the session's bindings, if the entry has them. */
static bool read_items(struct text value, size_t *at, struct cache_value *ret)
{
    uint16_t length = 0;
    ret->has_items = ret->head.flags & CACHE_VALUE_BOUND;
    ret->items = (struct text){0};
    if (!ret->has_items)
        return true;
    if (value.length < *at + sizeof(length))
        return false;
    memcpy(&length, value.data + *at, sizeof(length));
    *at += sizeof(length);
    if (value.length < *at + length)
        return false;
    ret->items = (struct text){value.data + *at, length};
    *at += length;
    return true;
}

bool cache_value_read_active(struct text value, const uint8_t session_id[SESSION_ID],
                             struct cache_value *ret)
{
    const struct cache_value_active *head = &ret->head;
    if (cache_value_kind(value) != CACHE_VALUE_ACTIVE)
        return false;
    memcpy(&ret->head, value.data, sizeof(ret->head));
    size_t at = sizeof(ret->head);
    size_t previous = head->flags & CACHE_VALUE_PREVIOUS ? SECRET_HASH : 0;
    uint32_t began_s = 0;
    size_t began = head->flags & CACHE_VALUE_BEGAN ? sizeof(began_s) : 0;
    if (value.length < at + began + previous)
        return false;
    memcpy(&began_s, value.data + at, began);
    at += began;
    ret->session = (struct session){.last_seen_s = head->last_seen_s};
    memcpy(ret->session.id, session_id, SESSION_ID);
    struct record *record = &ret->session.record;
    record->remember = head->flags & CACHE_VALUE_REMEMBER;
    record->issued_ms = head->issued_ms;
    record->absolute_s = head->absolute_s;
    record->began_s = began_s;
    record->has_previous = previous > 0;
    record->previous_access_over = head->flags & CACHE_VALUE_PREVIOUS_OVER;
    memcpy(record->access_hash, head->access_hash, SECRET_HASH);
    memcpy(record->previous_access_hash, value.data + at, previous);
    at += previous;
    if (!read_items(value, &at, ret))
        return false;
    ret->session_json = (struct text){value.data + at, value.length - at};
    return true;
}

/* --- recognising tokens --- */

static_assert(CRYPTO_SHORT_MAC == SECRET_HASH, "a MAC stands where a hash does");

static void mac_token(const struct session_service *service, const struct token *token,
                      uint8_t mac[SECRET_HASH])
{
    uint8_t shown[SESSION_ID + SECRET_LENGTH];
    memcpy(shown, token->session_id, SESSION_ID);
    memcpy(shown + SESSION_ID, token->secret, SECRET_LENGTH);
    crypto_short_mac(service->recognition_key, shown, sizeof(shown), mac);
    crypto_wipe(shown, sizeof(shown));
}

bool cache_value_recognise(const struct session_service *service, struct cache_value *cache_value,
                           const struct token *token, uint8_t hash[SECRET_HASH])
{
    if (!(cache_value->head.flags & CACHE_VALUE_RECOGNISES))
        return false;
    mac_token(service, token, hash);
    return crypto_equal(hash, cache_value->session.record.access_hash, SECRET_HASH);
}

void cache_value_learn(struct session_service *service, const struct cache_key *key,
                       const struct cache_value *cache_value, const struct token *token,
                       const uint8_t hash[SECRET_HASH])
{
    struct cache_value_active learned = cache_value->head;
    if (learned.flags & CACHE_VALUE_RECOGNISES ||
        !crypto_equal(hash, learned.access_hash, SECRET_HASH))
        return;
    learned.flags |= CACHE_VALUE_RECOGNISES;
    mac_token(service, token, learned.access_hash);
    cache_patch_if(service->cache, key, &cache_value->head, &learned, sizeof(learned));
}

/* --- audit --- */

static struct text take_piece(const struct cache_value *cache_value,
                              const struct cache_value_piece *piece)
{
    if (piece->length == 0 ||
        (size_t)piece->offset + piece->length > cache_value->session_json.length)
        return (struct text){0};
    return (struct text){cache_value->session_json.data + piece->offset, piece->length};
}

struct text cache_value_device_type(const struct cache_value *cache_value, struct arena *arena)
{
    if (cache_value->head.device_type.length == CACHE_VALUE_ESCAPED)
        return session_json_device_member(arena, session_json_device(cache_value->session_json),
                                          "type");
    return take_piece(cache_value, &cache_value->head.device_type);
}

void cache_value_note(struct operation *operation, const struct cache_value *cache_value)
{
    const struct cache_value_active *head = &cache_value->head;
    operation->facts.session_id = operation_session_id(operation, cache_value->session.id);
    if (head->tenant.length == CACHE_VALUE_ESCAPED || head->user_id.length == CACHE_VALUE_ESCAPED ||
        head->device_id.length == CACHE_VALUE_ESCAPED ||
        head->device_type.length == CACHE_VALUE_ESCAPED) {
        struct session session;
        struct record record = {.session_json = cache_value->session_json};
        session_open(&session, cache_value->session.id, &record, operation->arena);
        operation_note_session(operation, &session);
        return;
    }
    operation->facts.tenant = take_piece(cache_value, &head->tenant);
    operation->facts.user_id = take_piece(cache_value, &head->user_id);
    operation->facts.device_id = take_piece(cache_value, &head->device_id);
    operation->facts.device_type = take_piece(cache_value, &head->device_type);
}

/* --- time --- */

bool cache_value_is_fresh(const struct session_service *service, const struct cache_entry *entry,
                          unsigned slot, int64_t now_ms)
{
    return freshness_holds(service, entry->generation, slot, now_ms);
}

int64_t cache_value_verified_ms(const struct session_service *service,
                                const struct cache_entry *entry, unsigned slot)
{
    return freshness_verified_ms(service, entry->generation, entry->verified_ms, slot);
}

int64_t session_entry_verified(void *service, const struct cache_entry *entry)
{
    struct cache_value_active head;
    if (cache_value_kind(entry->value) != CACHE_VALUE_ACTIVE)
        return entry->final ? clock_boot_ms() : entry->verified_ms;
    memcpy(&head, entry->value.data, sizeof(head));
    return cache_value_verified_ms(service, entry, head.slot % SLOT_COUNT);
}

void cache_value_touch(struct session_service *service, const struct cache_key *key,
                       const struct cache_value *cache_value, int64_t seen_s, bool owed)
{
    uint32_t seen = in_32_bits(seen_s);
    cache_patch(service->cache, key, offsetof(struct cache_value_active, last_seen_s), &seen,
                sizeof(seen));
    if (owed != cache_value->head.touch_owed)
        cache_patch(service->cache, key, offsetof(struct cache_value_active, touch_owed), &owed,
                    sizeof(owed));
}
