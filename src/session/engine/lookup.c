/* The read of one session: four fields and the user record in one command. */
#include "lookup.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "cache_value.h"
#include "clock.h"
#include "metrics.h"
#include "session/model/freezing.h"
#include "session/model/keys.h"
#include "session/model/session_json.h"

/* An older read may have missed a kick whose invalidation cannot reach this node. */
enum { JOINED_MOST_MS = 100 };

enum { FIELD_RECORD, FIELD_TOUCH, FIELD_USER, FIELD_STAMP, FIELD_NAMES, FIELDS };

struct lookup {
    struct store_call call;
    struct lookup *next; /* in its row, or idle */
    struct session_worker *worker;
    struct lookup_waiter *waiters;
    struct cache_key key;
    struct state_codec codec;
    struct keyring *keyring; /* lent by the first waiter ... */
    bool keeps_keyring;      /* ... and held since one has left */
    unsigned slot;
    size_t cache_quota;
    int64_t known_seen_s;
    bool bound;
    struct read_guard guard;

    char user_key[KEYS_USER_LENGTH];
    char touch_field[TOUCH_FIELD];
    struct text arguments[2 + FIELDS];
    struct arena arena;
    struct buffer value;
};

/* --- lifetime --- */

static struct lookup **lookup_row(struct session_worker *worker, const uint8_t id[SESSION_ID])
{
    uint64_t bits;
    memcpy(&bits, id, sizeof(bits));
    /* The random part of a session id is in its last bytes. */
    return &worker->lookups[(bits >> 48) % LOOKUP_ROWS];
}

static struct lookup *take_idle(struct session_worker *worker)
{
    struct lookup *lookup = worker->idle_lookups;
    if (!lookup)
        return xcalloc(1, sizeof(*lookup));
    worker->idle_lookups = lookup->next;
    assert(!lookup->waiters && lookup->value.length == 0);
    return lookup;
}

static void give_idle(struct lookup *lookup)
{
    arena_reset(&lookup->arena);
    if (lookup->keeps_keyring)
        keyring_unref(&lookup->keyring);
    lookup->keeps_keyring = false;
    lookup->value.length = 0;
    lookup->waiters = NULL;
    lookup->next = lookup->worker->idle_lookups;
    lookup->worker->idle_lookups = lookup;
}

void lookup_free_idle(struct session_worker *worker)
{
    for (size_t row = 0; row < LOOKUP_ROWS; row++)
        assert(!worker->lookups[row]);
    while (worker->idle_lookups) {
        struct lookup *lookup = worker->idle_lookups;
        worker->idle_lookups = lookup->next;
        arena_free(&lookup->arena);
        buffer_free(&lookup->value);
        free(lookup);
    }
}

static void leave_lookup_row(struct lookup *lookup)
{
    struct lookup **at = lookup_row(lookup->worker, lookup->key.session);
    while (*at != lookup)
        at = &(*at)->next;
    *at = lookup->next;
}

/* --- judging the reply --- */

static struct text reply_field(const struct store_reply *reply, size_t index)
{
    return store_reply_text(store_reply_element(reply, index));
}

/* True for strings and nils only: any other reply is of another command. */
static bool is_lookup_reply(const struct store_reply *reply)
{
    if (store_reply_type(reply) != STORE_ARRAY || store_reply_count(reply) != FIELDS)
        return false;
    for (size_t i = 0; i < FIELDS; i++) {
        enum store_type type = store_reply_type(store_reply_element(reply, i));
        if (type != STORE_STRING && type != STORE_NIL)
            return false;
    }
    return true;
}

static struct found found_refused(const char *reason)
{
    return (struct found){.kind = FOUND_REFUSED, .tombstone = {.reason = text_of(reason)}};
}

static struct found found_unreadable(void)
{
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    return found_refused(REASON_UNKNOWN);
}

static void cache_found(struct lookup *lookup, const struct cache_key *key, struct text value,
                        bool final)
{
    struct cache_entry entry = {
        .value = value,
        .generation = lookup->guard.generation,
        .verified_ms = lookup->guard.sent_ms,
        .final = final,
        .quota = lookup->cache_quota,
    };
    (void)cache_put(lookup->worker->service->cache, key, &entry, lookup->guard.lease);
}

static void store_value(struct lookup *lookup, bool final)
{
    assert(cache_value_kind(buffer_text(&lookup->value)) ==
           (final ? CACHE_VALUE_ENDED : CACHE_VALUE_ACTIVE));
    cache_found(lookup, &lookup->key, buffer_text(&lookup->value), final);
}

static struct found found_ended(struct lookup *lookup, const struct tombstone *tombstone)
{
    cache_value_write_ended(&lookup->value, tombstone);
    store_value(lookup, true);
    return (struct found){.kind = FOUND_ENDED, .tombstone = *tombstone};
}

/* A use while Redis was away counts too, and Redis has yet to get it. */
static struct found found_active(struct lookup *lookup, struct session *session, int64_t version)
{
    assert(lookup->slot < SLOT_COUNT);
    struct text session_json = session_json_complete(&lookup->arena, session->record.session_json,
                                                     session->id, rules_began_s(session));
    bool owed = lookup->known_seen_s > session->last_seen_s;
    if (owed)
        session->last_seen_s = lookup->known_seen_s;
    struct text items = {0};
    if (lookup->bound)
        items = binding_items(&session->record, &lookup->arena);
    cache_value_write_active(&lookup->value, session, lookup->slot, version, session_json,
                             lookup->bound ? &items : NULL);
    if (owed)
        cache_value_owe_touch(&lookup->value);
    store_value(lookup, false);
    return (struct found){.kind = FOUND_ACTIVE, .value = buffer_text(&lookup->value)};
}

/* Applies this node's freezes, which Redis may not have yet. */
static void apply_journal_freeze(struct lookup *lookup, struct user_record *user)
{
    struct journal *journal = lookup->worker->service->journal;
    size_t count;
    const struct revocation *list =
        journal_of_owner(journal, owner_bytes(&lookup->codec.owner), &lookup->arena, &count);
    (void)freezing_apply(user, freezing_last(list, count), clock_common_ms());
}

/* Adds the user's names, from the record of a session that is not active. */
static struct found with_names(struct lookup *lookup, struct found found,
                               const struct record *record)
{
    found.names = record_identity(record->session_json, &lookup->arena);
    return found;
}

static struct found judge_found_session(struct lookup *lookup, const struct record *record,
                                        const struct store_reply *reply, int64_t version)
{
    struct user_record user;
    struct session session = {.record = *record, .last_seen_s = record->issued_ms / 1000};
    int64_t seen_s;
    memcpy(session.id, lookup->key.session, SESSION_ID);
    if (!state_read_user(&lookup->codec, reply_field(reply, FIELD_USER), &lookup->arena, &user))
        return found_unreadable();
    apply_journal_freeze(lookup, &user);
    enum end_cause revoked = rules_revoked(&user, &session, clock_common_ms());
    if (revoked == CAUSE_FROZEN)
        return with_names(lookup, found_refused(REASON_FROZEN), record);
    if (revoked)
        return with_names(
            lookup, found_ended(lookup, &(struct tombstone){.reason = reasons_of_cause(revoked)}),
            record);
    if (store_reply_int(store_reply_element(reply, FIELD_TOUCH), 0, STORED_S_MAX, &seen_s) &&
        seen_s > session.last_seen_s)
        session.last_seen_s = seen_s;
    return found_active(lookup, &session, version);
}

static struct found judge_found_record(struct lookup *lookup, const struct store_reply *reply,
                                       int64_t version)
{
    const struct state_codec *codec = &lookup->codec;
    struct text stored = reply_field(reply, FIELD_RECORD);
    struct record_position place = {&codec->owner, lookup->key.session};
    struct record_content content;
    if (!stored.data)
        return (struct found){.kind = FOUND_MISSING};
    if (record_is_foreign(codec->keyring, stored) ||
        record_is_foreign(codec->keyring, reply_field(reply, FIELD_USER)))
        return (struct found){.err = ERR_SEAL_KEY_UNKNOWN};
    switch (record_read(codec->keyring, codec->encrypt, place, stored, &lookup->arena, &content)) {
    case RECORD_SESSION:
        return judge_found_session(lookup, &content.session, reply, version);
    case RECORD_TOMBSTONE:
        return found_ended(lookup, &content.tombstone);
    case RECORD_USER:
    case RECORD_CONTEXTS:
    case RECORD_CHALLENGE:
    case RECORD_TENANT:
    case RECORD_NAMES:
    case RECORD_UNREADABLE:
        break;
    }
    return found_unreadable();
}

/* Stores names until the cache needs the room. "No names" is stored until the user changes. The
 * refresher passes no session if it only wants the epoch. */
static void store_names(struct lookup *lookup, const struct names *names)
{
    static const uint8_t no_session[SESSION_ID];
    struct cache_key key = lookup->key;
    if (memcmp(key.session, no_session, SESSION_ID) == 0)
        return;
    memset(key.session, 0, SESSION_ID);
    struct buffer value = {0};
    cache_value_write_names(&value, names);
    cache_found(lookup, &key, buffer_text(&value), names->user_id.data != NULL);
    buffer_free(&value);
}

static void find_names(struct lookup *lookup, const struct store_reply *reply, struct found *found)
{
    if (found->err != ERR_OK || found->kind == FOUND_ACTIVE)
        return;
    if (!found->names.user_id.data)
        found->names =
            state_read_names(&lookup->codec, reply_field(reply, FIELD_NAMES), &lookup->arena);
    store_names(lookup, &found->names);
}

static struct found judge_lookup_reply(struct lookup *lookup, const struct store_reply *reply)
{
    struct session_service *service = lookup->worker->service;
    int64_t version, epoch;
    if (!is_lookup_reply(reply))
        return (struct found){.err = ERR_STORE_PROTOCOL};
    state_read_stamp(reply_field(reply, FIELD_STAMP), &version, &epoch);
    enum err err = freshness_check(service, &lookup->guard, &lookup->codec.owner, version, epoch);
    if (err != ERR_OK)
        return (struct found){.err = err};
    struct found found = judge_found_record(lookup, reply, version);
    found.epoch = epoch;
    found.overtaken = freshness_is_overtaken(service, &lookup->guard, &lookup->codec.owner);
    find_names(lookup, reply, &found);
    return found;
}

static void lookup_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct lookup *lookup = (struct lookup *)call;
    leave_lookup_row(lookup);
    struct found found =
        err == ERR_OK ? judge_lookup_reply(lookup, reply) : (struct found){.err = err};
    struct lookup_waiter *next;
    for (struct lookup_waiter *waiter = lookup->waiters; waiter; waiter = next) {
        next = waiter->next;
        waiter->done(waiter, &found);
    }
    give_idle(lookup);
}

void lookup_leave(struct lookup_waiter *waiter)
{
    struct lookup *lookup = waiter->lookup;
    struct lookup_waiter **at = &lookup->waiters;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
    if (!lookup->keeps_keyring)
        lookup->keyring = keyring_ref(lookup->keyring);
    lookup->keeps_keyring = true;
}

/* --- sending --- */

static void send_lookup(struct lookup *lookup, int64_t deadline_ms)
{
    assert(lookup->waiters);
    lookup->arguments[0] = TEXT("HMGET");
    lookup->arguments[1] = (struct text){lookup->user_key, KEYS_USER_LENGTH};
    lookup->arguments[2 + FIELD_RECORD] = (struct text){lookup->touch_field, SESSION_ID};
    lookup->arguments[2 + FIELD_TOUCH] = (struct text){lookup->touch_field, TOUCH_FIELD};
    lookup->arguments[2 + FIELD_USER] = TEXT(STATE_FIELD_USER);
    lookup->arguments[2 + FIELD_STAMP] = TEXT(STATE_FIELD_VERSION);
    lookup->arguments[2 + FIELD_NAMES] = TEXT(STATE_FIELD_NAMES);
    lookup->call = (struct store_call){
        .key = lookup->arguments[1],
        .arguments = lookup->arguments,
        .argument_count = 2 + FIELDS,
        .flags = STORE_REPEATABLE,
        .deadline_ms = deadline_ms,
        .done = lookup_done,
    };
    store_send(lookup->worker->link, &lookup->call);
}

static bool join_lookup(struct session_worker *worker, const struct cache_key *key,
                        const struct lookup_request *request, struct lookup_waiter *waiter)
{
    struct lookup *lookup = request->alone ? NULL : *lookup_row(worker, key->session);
    while (lookup && memcmp(&lookup->key, key, sizeof(*key)) != 0)
        lookup = lookup->next;
    if (!lookup || freshness_is_overtaken(worker->service, &lookup->guard, request->owner) ||
        clock_boot_ms() - lookup->guard.sent_ms > JOINED_MOST_MS)
        return false;
    if (request->known_version > lookup->guard.known_version)
        lookup->guard.known_version = request->known_version;
    if (request->known_seen_s > lookup->known_seen_s)
        lookup->known_seen_s = request->known_seen_s;
    lookup->bound = lookup->bound || request->bound;
    waiter->joined = true;
    waiter->lookup = lookup;
    waiter->next = lookup->waiters;
    lookup->waiters = waiter;
    metrics_add(METRIC_CACHE_SHARED, 1);
    return true;
}

struct lookup_request lookup_request_of(const struct user_tag *owner, const uint8_t *session_id,
                                        struct keyring *keyring, const struct conf *conf,
                                        const struct policy *policy, int64_t deadline_ms)
{
    return (struct lookup_request){
        .owner = owner,
        .session_id = session_id,
        .keyring = keyring,
        .encrypt = conf->keys_encryption != ENCRYPTION_NONE,
        .bound = binding_counts(policy),
        .cache_quota = lookup_quota(policy),
        .deadline_ms = deadline_ms,
    };
}

void lookup_begin(struct session_worker *worker, const struct lookup_request *request,
                  struct lookup_waiter *waiter)
{
    assert(waiter->done && request->owner && request->session_id);
    struct cache_key key;
    memcpy(key.owner, request->owner, OWNER_TAG);
    memcpy(key.session, request->session_id, SESSION_ID);
    if (join_lookup(worker, &key, request, waiter))
        return;
    struct lookup *lookup = take_idle(worker);
    struct lookup **row = lookup_row(worker, key.session);
    lookup->next = *row;
    *row = lookup;
    lookup->worker = worker;
    lookup->key = key;
    lookup->keyring = request->keyring;
    lookup->codec = (struct state_codec){
        .keyring = request->keyring, .encrypt = request->encrypt, .owner = *request->owner};
    lookup->cache_quota = request->cache_quota;
    lookup->known_seen_s = request->known_seen_s;
    lookup->bound = request->bound;
    lookup->waiters = waiter;
    waiter->next = NULL;
    waiter->lookup = lookup;
    waiter->joined = false;
    keys_user(request->owner, KEYS_USER, lookup->user_key);
    memcpy(lookup->touch_field, key.session, SESSION_ID);
    lookup->touch_field[SESSION_ID] = 't';
    lookup->slot = store_slot((struct text){lookup->user_key, KEYS_USER_LENGTH});
    lookup->guard = freshness_begin(worker, request->owner, lookup->slot);
    lookup->guard.known_version = request->known_version;
    send_lookup(lookup, request->deadline_ms);
}
