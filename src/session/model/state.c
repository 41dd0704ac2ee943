/* A user's state: from HGETALL to structs. */
#include "state.h"

#include <assert.h>
#include <string.h>

#include "metrics.h"
#include "session_json.h"

const uint8_t state_no_session[SESSION_ID];

struct state_reader {
    const struct state_codec *codec;
    struct arena *arena;
    struct user_state *state;
    const struct store_reply *reply;
};

void session_open(struct session *ret, const uint8_t id[SESSION_ID], const struct record *record,
                  struct arena *arena)
{
    struct text device = session_json_device(record->session_json);
    *ret = (struct session){
        .record = *record,
        .device_id = session_json_device_member(arena, device, "id"),
        .device_type = session_json_device_member(arena, device, "type"),
        .last_seen_s = record->issued_ms / 1000,
    };
    memcpy(ret->id, id, SESSION_ID);
}

static void note_foreign(struct state_reader *reader, const uint8_t id[SESSION_ID])
{
    struct user_state *state = reader->state;
    size_t fields = store_reply_count(reader->reply) / 2;
    assert(state->foreign_count < fields);
    if (!state->foreign)
        state->foreign = arena_alloc(reader->arena, fields * sizeof(*state->foreign));
    memcpy(state->foreign[state->foreign_count++], id, SESSION_ID);
}

static void read_record(struct state_reader *reader, struct text field, struct text value)
{
    struct user_state *state = reader->state;
    struct record_content content;
    const uint8_t *id = (const uint8_t *)field.data;
    struct record_position place = {&reader->codec->owner, id};
    enum record_kind kind = record_read(reader->codec->keyring, reader->codec->encrypt, place,
                                        value, reader->arena, &content);
    if (kind == RECORD_SESSION) {
        session_open(&state->sessions[state->session_count++], id, &content.session, reader->arena);
        state->session_json = content.session.session_json;
        return;
    }
    if (kind == RECORD_TOMBSTONE) {
        struct tombstone_entry *tombstone = &state->tombstones[state->tombstone_count++];
        memcpy(tombstone->id, id, SESSION_ID);
        tombstone->tombstone = content.tombstone;
        return;
    }
    state->unreadable_count++;
    if (record_is_foreign(reader->codec->keyring, value))
        note_foreign(reader, id);
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
}

bool state_read_user(const struct state_codec *codec, struct text stored, struct arena *arena,
                     struct user_record *ret)
{
    struct record_content content;
    struct record_position place = {&codec->owner, state_no_session};
    *ret = (struct user_record){0};
    if (!stored.data)
        return true;
    if (record_read(codec->keyring, codec->encrypt, place, stored, arena, &content) != RECORD_USER)
        return false;
    *ret = content.user;
    return true;
}

struct names state_read_names(const struct state_codec *codec, struct text stored,
                              struct arena *arena)
{
    struct record_content content;
    struct record_position place = {&codec->owner, state_no_session};
    if (!stored.data ||
        record_read(codec->keyring, codec->encrypt, place, stored, arena, &content) != RECORD_NAMES)
        return (struct names){0};
    return content.names;
}

struct names state_names(const struct user_state *state, struct arena *arena)
{
    return state->names.user_id.data ? state->names : record_identity(state->session_json, arena);
}

static void read_user(struct state_reader *reader, struct text value)
{
    struct user_state *state = reader->state;
    const struct keyring *keyring = reader->codec->keyring;
    state->user_foreign = record_is_foreign(keyring, value);
    state->user_outdated = record_is_outdated(keyring, value);
    state->user_unreadable = !state_read_user(reader->codec, value, reader->arena, &state->user);
}

static void read_names(struct state_reader *reader, struct text value)
{
    reader->state->names = state_read_names(reader->codec, value, reader->arena);
    reader->state->names_outdated = record_is_outdated(reader->codec->keyring, value);
}

/* Contexts that do not open count as empty: everything is new. */
static void read_contexts(struct state_reader *reader, struct text value)
{
    const struct state_codec *codec = reader->codec;
    struct record_position place = {&codec->owner, state_no_session};
    struct record_content content;
    reader->state->contexts_foreign = record_is_foreign(codec->keyring, value);
    if (record_read(codec->keyring, codec->encrypt, place, value, reader->arena, &content) !=
            RECORD_CONTEXTS ||
        !contexts_read(content.bytes, &reader->state->contexts))
        metrics_add(METRIC_RECORDS_UNREADABLE, 1);
}

static void read_touch(struct user_state *state, struct text field, int64_t seen_s)
{
    struct session *session = state_find(state, (const uint8_t *)field.data);
    if (session && seen_s > session->last_seen_s)
        session->last_seen_s = seen_s;
}

void state_read_stamp(struct text stamp, int64_t *version, int64_t *epoch)
{
    const char *blank = stamp.length ? memchr(stamp.data, ' ', stamp.length) : NULL;
    size_t length = blank ? (size_t)(blank - stamp.data) : stamp.length;
    *version = *epoch = 0;
    if (!text_to_int((struct text){stamp.data, length}, 0, STORED_MS_MAX, version) || !blank)
        return;
    struct text behind = {blank + 1, stamp.length - length - 1};
    if (!text_to_int(behind, 0, STORED_MS_MAX, epoch))
        *epoch = 0;
}

static void read_stamp(struct state_reader *reader, struct text value)
{
    struct user_state *state = reader->state;
    state->stamp = arena_copy(reader->arena, value);
    state_read_stamp(value, &state->version, &state->epoch);
}

/* Touches come last: HGETALL has no order, and they belong to sessions. */
static void read_fields(struct state_reader *reader, bool touches)
{
    size_t count = store_reply_count(reader->reply);
    for (size_t i = 0; i + 1 < count; i += 2) {
        struct text field = store_reply_text(store_reply_element(reader->reply, i));
        const struct store_reply *element = store_reply_element(reader->reply, i + 1);
        struct text value = store_reply_text(element);
        int64_t number;
        bool is_touch = field.length == TOUCH_FIELD && field.data[SESSION_ID] == 't';
        if (is_touch != touches)
            continue;
        if (is_touch && store_reply_int(element, 0, STORED_S_MAX, &number))
            read_touch(reader->state, field, number);
        else if (field.length == SESSION_ID)
            read_record(reader, field, value);
        else if (text_equal(field, TEXT(STATE_FIELD_VERSION)))
            read_stamp(reader, value);
        else if (text_equal(field, TEXT(STATE_FIELD_USER)))
            read_user(reader, value);
        else if (text_equal(field, TEXT(STATE_FIELD_CONTEXTS)))
            read_contexts(reader, value);
        else if (text_equal(field, TEXT(STATE_FIELD_GUESSES)))
            guesses_read(value, &reader->state->guesses);
        else if (text_equal(field, TEXT(STATE_FIELD_NAMES)))
            read_names(reader, value);
    }
}

static bool is_hash(const struct store_reply *reply)
{
    if (store_reply_type(reply) != STORE_ARRAY || store_reply_count(reply) % 2 != 0)
        return false;
    for (size_t i = 0; i < store_reply_count(reply); i++)
        if (store_reply_type(store_reply_element(reply, i)) != STORE_STRING)
            return false;
    return true;
}

enum err state_read(const struct state_codec *codec, const struct store_reply *reply,
                    struct arena *arena, struct user_state *ret)
{
    if (!is_hash(reply))
        return ERR_STORE_PROTOCOL;
    size_t fields = store_reply_count(reply) / 2;
    *ret = (struct user_state){.stamp = TEXT("0")};
    ret->sessions = arena_alloc(arena, (fields + 1) * sizeof(*ret->sessions));
    ret->tombstones = arena_alloc(arena, (fields + 1) * sizeof(*ret->tombstones));
    struct state_reader reader = {codec, arena, ret, reply};
    read_fields(&reader, false);
    read_fields(&reader, true);
    return ret->user_foreign ? ERR_SEAL_KEY_UNKNOWN : ERR_OK;
}

struct session *state_find(const struct user_state *state, const uint8_t id[SESSION_ID])
{
    for (size_t i = 0; i < state->session_count; i++)
        if (memcmp(state->sessions[i].id, id, SESSION_ID) == 0)
            return &state->sessions[i];
    return NULL;
}

const struct tombstone_entry *state_find_tombstone(const struct user_state *state,
                                                   const uint8_t id[SESSION_ID])
{
    for (size_t i = 0; i < state->tombstone_count; i++)
        if (memcmp(state->tombstones[i].id, id, SESSION_ID) == 0)
            return &state->tombstones[i];
    return NULL;
}

bool state_is_foreign(const struct user_state *state, const uint8_t id[SESSION_ID])
{
    for (size_t i = 0; i < state->foreign_count; i++)
        if (memcmp(state->foreign[i], id, SESSION_ID) == 0)
            return true;
    return false;
}
