/* Writes of the index. Each is an object of its own, which outlives the request that caused it. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "index.h"
#include "metrics.h"
#include "session/engine/service.h"
#include "session/model/expiry.h"
#include "session/model/freezing.h"
#include "session/model/keys.h"

enum {
    MOVED_AT_ONCE = 1000 /* members of a crowded root */
};

/* KEYS[1] a bucket. ARGV: the score below which members expire, expiry, score, member, "gt" if a
 * score only grows, else "ch". Returns the number of members, or -1 for a root that is given up:
 * its mark is the empty member, below all scores. */
static struct store_script add_script = {
    .source =
        EXPIRY_LUA "redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1])\n"
                   "local marked = redis.call('ZSCORE', KEYS[1], '')\n"
                   "if not marked then redis.call('ZADD', KEYS[1], ARGV[5], ARGV[3], ARGV[4]) end\n"
                   "redis.call('PEXPIREAT', KEYS[1], expiry(ARGV[2]))\n"
                   "return marked and -1 or redis.call('ZCARD', KEYS[1])\n",
};

void index_prepare(void)
{
    store_script_prepare(&add_script);
}

struct index_write {
    struct store_call call;
    struct session_worker *worker;
    struct keyring *keyring; /* a reference, if a state is to be read */
    bool encrypt;
    struct user_tag owner;
    unsigned bucket;
    struct policy policy;
    int64_t now_ms, timeout_ms, cutoff_ms;
    int64_t below, expire_ms, score; /* of the script */
    char key[KEYS_USER_LENGTH];
    enum keys_kind kind;
    uint8_t id[SESSION_ID]; /* of the session or challenge */
};

typedef void written(struct store_call *call, enum err err, const struct store_reply *reply);

/* --- large tenants, as far as this node remembers --- */

static _Atomic uint64_t *crowded_place(struct session_service *service,
                                       const uint8_t tenant[TENANT_TAG], uint64_t *tag)
{
    *tag = 0;
    memcpy(tag, tenant, TENANT_TAG);
    return &service->crowded[*tag % CROWDED_ROWS];
}

static bool is_crowded(struct session_service *service, const uint8_t tenant[TENANT_TAG])
{
    uint64_t tag;
    _Atomic uint64_t *place = crowded_place(service, tenant, &tag);
    return atomic_load_explicit(place, memory_order_relaxed) == tag;
}

/* False if it was known before. */
static bool note_crowded(struct session_service *service, const uint8_t tenant[TENANT_TAG])
{
    uint64_t tag;
    _Atomic uint64_t *place = crowded_place(service, tenant, &tag);
    return atomic_exchange_explicit(place, tag, memory_order_relaxed) != tag;
}

/* The user's bucket. */
static unsigned home_of(const struct index_write *write)
{
    return is_crowded(write->worker->service, write->owner.tenant) ? index_bucket(write->owner.user)
                                                                   : 0;
}

/* --- lifetime of a write --- */

static struct index_write *make_write(const struct operation *operation,
                                      const struct user_tag *owner)
{
    assert(operation->tenancy);
    const struct policy_document *document = operation->tenancy->policy;
    struct index_write *write = xcalloc(1, sizeof(*write));
    int64_t shortest_s, longest_s;
    write->kind = KEYS_INDEX;
    write->worker = operation->context->worker;
    write->owner = *owner;
    write->now_ms = operation->now_ms;
    write->timeout_ms = operation->conf->redis_timeout;
    write->cutoff_ms = operation->tenancy->not_before_ms;
    policy_of_tenant(operation->conf, document, &write->policy);
    policy_idle_range(operation->conf, document, &shortest_s, &longest_s);
    if (longest_s < write->policy.refresh_ttl)
        longest_s = write->policy.refresh_ttl;
    write->below = index_floor(index_oldest(operation_age_ms(operation) / 1000, longest_s));
    write->expire_ms = write->now_ms + (operation_longest_life_s(operation) + INDEX_STEP) * 1000;
    return write;
}

static void free_write(struct index_write *write)
{
    keyring_unref(&write->keyring);
    free(write);
}

static void index_written(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)err;
    (void)reply;
    free_write((struct index_write *)call);
}

/* If the step failed, nothing follows. */
static bool goes_on(struct index_write *write, enum err err)
{
    if (err == ERR_OK && !write->worker->closing)
        return true;
    free_write(write);
    return false;
}

static void send_command(struct index_write *write, size_t key_length,
                         const struct store_script *script, const struct text *arguments,
                         size_t count, written *done)
{
    write->call = (struct store_call){
        .key = {write->key, key_length},
        .script = script,
        .arguments = arguments,
        .argument_count = count,
        .flags = STORE_REPEATABLE,
        .deadline_ms = clock_monotonic_ms() + write->timeout_ms,
        .done = done,
    };
    store_send(write->worker->link, &write->call);
}

/* The user's tag; for a session or challenge, followed by its id. */
static struct text member_of(const struct index_write *write, char out[USER_TAG + SESSION_ID])
{
    memcpy(out, write->owner.user, USER_TAG);
    memcpy(out + USER_TAG, write->id, SESSION_ID);
    bool of_user = write->kind == KEYS_INDEX || write->kind == KEYS_FROZEN;
    return (struct text){out, of_user ? USER_TAG : USER_TAG + SESSION_ID};
}

static void print_index_key(struct index_write *write, unsigned bucket)
{
    keys_bucket(write->kind, write->owner.tenant, bucket, write->key);
}

static struct text print_index_number(char out[INDEX_NUMBER], int64_t value)
{
    return (struct text){out, (size_t)snprintf(out, INDEX_NUMBER, "%" PRId64, value)};
}

static void send_add(struct index_write *write, unsigned bucket, int64_t score, written *done)
{
    assert(bucket < INDEX_BUCKETS);
    assert(score >= 0); /* below lies only the mark */
    char below[INDEX_NUMBER], expire[EXPIRY_TEXT], digits[INDEX_NUMBER],
        member[USER_TAG + SESSION_ID];
    const struct text arguments[] = {
        print_index_number(below, write->below),
        expiry_print(expire, write->expire_ms, write->now_ms),
        print_index_number(digits, score),
        member_of(write, member),
        write->kind == KEYS_FROZEN ? TEXT("ch") : TEXT("gt"),
    };
    write->bucket = bucket;
    write->score = score;
    print_index_key(write, bucket);
    metrics_add(METRIC_INDEX_WRITES, 1);
    send_command(write, KEYS_BUCKET_LENGTH, &add_script, arguments, 5, done);
}

static void send_remove(struct index_write *write, unsigned bucket, written *done)
{
    assert(bucket < INDEX_BUCKETS);
    char member[USER_TAG + SESSION_ID];
    print_index_key(write, bucket);
    const struct text arguments[] = {
        TEXT("ZREM"), {write->key, KEYS_BUCKET_LENGTH}, member_of(write, member)};
    send_command(write, KEYS_BUCKET_LENGTH, NULL, arguments, 3, done);
}

/* --- a crowded root --- */

static void member_moved(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct index_write *write = (struct index_write *)call;
    if (goes_on(write, err))
        send_remove(write, 0, index_written);
}

/* Adds to the bucket first: a list meanwhile sees the user twice rather than not at all. */
static void move_member(const struct index_write *root, struct text member, int64_t score)
{
    assert(root->bucket == 0 && root->kind == KEYS_INDEX);
    struct index_write *write = xmalloc(sizeof(*write));
    *write = *root;
    write->keyring = NULL;
    memcpy(write->owner.user, member.data, USER_TAG);
    send_add(write, index_bucket(write->owner.user), score, member_moved);
}

static void root_read(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct index_write *write = (struct index_write *)call;
    if (!goes_on(write, err))
        return;
    for (size_t i = 0; i + 1 < store_reply_count(reply); i += 2) {
        struct text member = store_reply_text(store_reply_element(reply, i));
        int64_t score;
        if (member.length == USER_TAG &&
            index_read_score(store_reply_element(reply, i + 1), &score))
            move_member(write, member, score);
    }
    free_write(write);
}

static void root_marked(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct index_write *write = (struct index_write *)call;
    char last[INDEX_NUMBER];
    if (!goes_on(write, err))
        return;
    const struct text arguments[] = {TEXT("ZRANGE"),
                                     {write->key, KEYS_BUCKET_LENGTH},
                                     TEXT("0"),
                                     print_index_number(last, MOVED_AT_ONCE),
                                     TEXT("WITHSCORES")};
    send_command(write, KEYS_BUCKET_LENGTH, NULL, arguments, 5, root_read);
}

/* The mark comes first: after it no node adds to the root. */
static void give_root_up(struct index_write *write)
{
    assert(write->bucket == 0);
    const struct text arguments[] = {
        TEXT("ZADD"), {write->key, KEYS_BUCKET_LENGTH}, TEXT("-1"), TEXT("")};
    send_command(write, KEYS_BUCKET_LENGTH, NULL, arguments, 4, root_marked);
}

/* --- notes --- */

static void noted(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct index_write *write = (struct index_write *)call;
    assert(write->kind == KEYS_INDEX);
    struct session_service *service = write->worker->service;
    int64_t members = 0;
    if (!goes_on(write, err))
        return;
    (void)store_reply_int(reply, -1, UINT32_MAX, &members);
    if (write->bucket == 0 && members < 0) {
        note_crowded(service, write->owner.tenant);
        send_add(write, index_bucket(write->owner.user), write->score, index_written);
    } else if (write->bucket == 0 && members > INDEX_ROOT_MOST &&
               note_crowded(service, write->owner.tenant)) {
        give_root_up(write);
    } else {
        free_write(write);
    }
}

static void send_note(struct index_write *write, int64_t moment_s)
{
    send_add(write, home_of(write), index_score(moment_s, write->owner.user), noted);
}

/* --- what counts towards quotas --- */

static void add_counted(struct index_write *write, int64_t score)
{
    send_add(write, index_bucket(write->owner.user), score, index_written);
}

static struct index_write *make_counted(const struct operation *operation,
                                        const struct user_tag *owner, enum keys_kind kind,
                                        const uint8_t id[SESSION_ID])
{
    struct index_write *write = make_write(operation, owner);
    write->kind = kind;
    memcpy(write->id, id, SESSION_ID);
    return write;
}

static bool counts_sessions(const struct operation *operation)
{
    struct policy policy;
    operation_policy(operation, &policy);
    return policy.quota_sessions > 0 && !operation->context->worker->closing;
}

void index_note_pending(struct operation *operation, const struct user_tag *owner,
                        const uint8_t challenge[SESSION_ID], int64_t end_s)
{
    if (!counts_sessions(operation))
        return;
    struct index_write *write = make_counted(operation, owner, KEYS_PENDING, challenge);
    write->below = write->now_ms / 1000;
    add_counted(write, end_s);
}

void index_forget_pending(struct operation *operation, const struct user_tag *owner,
                          const uint8_t challenge[SESSION_ID])
{
    if (counts_sessions(operation))
        send_remove(make_counted(operation, owner, KEYS_PENDING, challenge),
                    index_bucket(owner->user), index_written);
}

void index_note_frozen(struct operation *operation, const struct user_tag *owner, int64_t until_s)
{
    static const uint8_t none[SESSION_ID];
    struct policy policy;
    operation_policy(operation, &policy);
    if (policy.quota_users == 0 || operation->context->worker->closing)
        return;
    struct index_write *write = make_counted(operation, owner, KEYS_FROZEN, none);
    write->below = write->now_ms / 1000 - FREEZING_REMEMBERED_S;
    /* Longer than any temporary freeze is remembered. */
    write->expire_ms = write->now_ms + (FREEZE_MOST_S + FREEZING_REMEMBERED_S) * 1000;
    add_counted(write, until_s > 0 ? until_s : UINT32_MAX);
}

void index_note(struct operation *operation, const struct user_tag *owner,
                const struct session *session)
{
    if (operation->context->worker->closing)
        return;
    struct index_write *write = make_write(operation, owner);
    int64_t moment_s = index_moment(session, &write->policy, write->now_ms / 1000);
    bool counted = write->policy.quota_sessions > 0;
    send_note(write, moment_s);
    if (counted)
        add_counted(make_counted(operation, owner, KEYS_SESSIONS, session->id),
                    index_score(moment_s, owner->user));
}

void index_note_ended(struct operation *operation)
{
    struct user_tag owner;
    uint8_t id[SESSION_ID];
    if (!operation->tenancy || !counts_sessions(operation))
        return;
    token_tag_user(operation->context->keyring, operation->facts.tenant, operation->facts.user_id,
                   &owner);
    for (size_t i = 0; i < operation->out.ended_count; i++)
        if (text_from_hex(id, SESSION_ID, operation->out.ended[i]))
            send_remove(make_counted(operation, &owner, KEYS_SESSIONS, id),
                        index_bucket(owner.user), index_written);
}

void index_note_state(struct operation *operation, const struct user_tag *owner,
                      const struct user_state *state)
{
    struct policy policy;
    operation_policy(operation, &policy);
    int64_t moment_s =
        index_moment_of_state(state, &policy, operation->tenancy->not_before_ms, operation->now_ms);
    if (moment_s > 0 && !operation->context->worker->closing)
        send_note(make_write(operation, owner), moment_s);
}

/* --- settling --- */

static void state_seen(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct index_write *write = (struct index_write *)call;
    struct state_codec codec = {
        .keyring = write->keyring, .encrypt = write->encrypt, .owner = write->owner};
    struct arena arena = {0};
    struct user_state state;
    int64_t moment_s = 0;
    if (!goes_on(write, err))
        return;
    if (state_read(&codec, reply, &arena, &state) == ERR_OK)
        moment_s =
            index_moment_of_state(&state, &write->policy, write->cutoff_ms, clock_common_ms());
    arena_free(&arena);
    if (moment_s > 0)
        send_note(write, moment_s);
    else
        free_write(write);
}

static void taken_out(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct index_write *write = (struct index_write *)call;
    if (!goes_on(write, err))
        return;
    keys_user(&write->owner, KEYS_USER, write->key);
    const struct text arguments[] = {TEXT("HGETALL"), {write->key, KEYS_USER_LENGTH}};
    send_command(write, KEYS_USER_LENGTH, NULL, arguments, 2, state_seen);
}

void index_correct(struct operation *operation, const struct user_tag *owner, unsigned bucket)
{
    assert(bucket <= INDEX_BUCKETS);
    if (operation->context->worker->closing)
        return;
    struct index_write *write = make_write(operation, owner);
    write->keyring = keyring_ref(operation->context->keyring);
    write->encrypt = operation->conf->keys_encryption != ENCRYPTION_NONE;
    send_remove(write, bucket < INDEX_BUCKETS ? bucket : home_of(write), taken_out);
}
