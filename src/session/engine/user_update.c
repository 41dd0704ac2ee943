/* Read, decide, compare-and-set; and the three scripts. */
#include "user_update.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "session/model/expiry.h"
#include "session/model/keys.h"
#include "session/model/rules.h"
#include "session/upkeep/refresher.h"

/* Most rounds of one update. Each conflict means that another update of the user succeeded, so the
 * deadline usually comes first. */
#define ROUNDS_MAX 500

/* KEYS[1] the user's hash. ARGV: expected stamp ("0": no hash), new stamp, expiry ("0": none),
 * number of arguments that are fields and values to set; all further arguments are fields to
 * delete. Returns 1, or on conflict the whole hash. */
static struct store_script write_script = {
    .source =
        EXPIRY_LUA "local found = redis.call('HGET', KEYS[1], '!') or '0'\n"
                   "if found ~= ARGV[1] then return redis.call('HGETALL', KEYS[1]) end\n"
                   "local last = 4 + tonumber(ARGV[4])\n"
                   "redis.call('HSET', KEYS[1], '!', ARGV[2], unpack(ARGV, 5, last))\n"
                   "if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end\n"
                   "if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1])\n"
                   "else redis.call('PEXPIREAT', KEYS[1], expiry(ARGV[3])) end\n"
                   "return 1\n",
};

/* KEYS[1] the epoch. ARGV: least value, expiry. The epoch never goes back and never expires earlier
 * than before. A value that is no number, or exceeds STORED_MS_MAX, was not written by us. */
static struct store_script epoch_script = {
    .source = EXPIRY_LUA "local present = redis.call('GET', KEYS[1])\n"
                         "local before = tonumber(present or '0') or 0\n"
                         "if not (before >= 0 and before < 2^48) then before = 0 end\n"
                         "local value = math.max(before + 1, tonumber(ARGV[1]))\n"
                         "local text = string.format('%.0f', value)\n"
                         "if present then\n"
                         "  redis.call('SET', KEYS[1], text, 'KEEPTTL')\n"
                         "  redis.call('PEXPIREAT', KEYS[1], expiry(ARGV[2]), 'GT')\n"
                         "else redis.call('SET', KEYS[1], text, 'PXAT', expiry(ARGV[2])) end\n"
                         "return value\n",
};

/* KEYS[1] the user's hash. ARGV: session id, its touch field, seconds, expiry in ms. */
static struct store_script touch_script = {
    .source = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end\n"
              "redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])\n"
              "redis.call('PEXPIREAT', KEYS[1], ARGV[4], 'GT')\n"
              "return 1\n",
};

void user_update_prepare(void)
{
    store_script_prepare(&write_script);
    store_script_prepare(&epoch_script);
    store_script_prepare(&touch_script);
}

static struct text print_expiry_argument(struct user_update *change, size_t slot, int64_t at_ms)
{
    return expiry_print(change->run.numbers[slot], at_ms, change->operation->now_ms);
}

static struct user_update *user_update_of(struct store_call *call)
{
    return container_of(call, struct user_update, run.call);
}

static struct text print_argument(struct user_update *change, size_t slot, int64_t value)
{
    char *digits = change->run.numbers[slot];
    int length = snprintf(digits, sizeof(change->run.numbers[slot]), "%" PRId64, value);
    return (struct text){digits, (size_t)length};
}

static void send_user_read(struct user_update *change);

/* The update of the same user that is in flight, NULL if there is none. */
static struct user_update *find_rival(const struct user_update *change)
{
    struct user_update *rival = change->operation->context->worker->changes;
    while (rival && memcmp(&rival->codec.owner, &change->codec.owner, sizeof(struct user_tag)) != 0)
        rival = rival->run.next;
    return rival;
}

static void queue_behind(struct user_update *rival, struct user_update *change)
{
    assert(rival != change && !change->run.successor);
    struct user_update *last = rival->run.last ? rival->run.last : rival;
    assert(!last->run.successor);
    last->run.successor = change;
    rival->run.last = change;
}

/* Removes the update from those in flight; its successor, if any, takes its position. */
static struct user_update *replace_by_successor(struct user_update *change)
{
    assert(find_rival(change) == change);
    struct user_update **place = &change->operation->context->worker->changes;
    while (*place != change)
        place = &(*place)->run.next;
    struct user_update *successor = change->run.successor;
    if (successor) {
        successor->run.next = change->run.next;
        successor->run.last = change->run.last != successor ? change->run.last : NULL;
    }
    *place = successor ? successor : change->run.next;
    return successor;
}

/* Starts the successor before the update is gone. A successor whose deadline passed in the queue
 * ends in the same loop: a hung store may have left many of them. */
static void finish_update(struct user_update *change, enum err err)
{
    while (change) {
        assert(change->run.owed == 0);
        struct user_update *successor = replace_by_successor(change);
        bool closing = change->operation->context->worker->closing;
        bool late =
            successor && (closing || clock_monotonic_ms() >= successor->operation->deadline_ms);
        if (successor && !late)
            send_user_read(successor);
        if (err != ERR_OK)
            change->operation->out.err = err;
        change->ops->finish(change);
        change = late ? successor : NULL;
        err = closing ? ERR_SHUTTING_DOWN : ERR_STORE_TIMEOUT;
    }
}

static void send_user_call(struct user_update *change, struct text key,
                           const struct store_script *script, const struct text *arguments,
                           size_t count, unsigned flags,
                           void (*done)(struct store_call *, enum err, const struct store_reply *))
{
    struct session_worker *worker = change->operation->context->worker;
    change->run.guard = freshness_begin(worker, &change->codec.owner, store_slot(key));
    change->run.call = (struct store_call){
        .key = key,
        .script = script,
        .arguments = arguments,
        .argument_count = count,
        .flags = flags,
        .deadline_ms = change->operation->deadline_ms,
        .done = done,
    };
    store_send(worker->link, &change->run.call);
}

/* --- after the write --- */

static void confirm_revocations(struct user_update *change)
{
    assert(change->run.numbers_journaled);
    struct journal *journal = change->operation->context->worker->service->journal;
    for (size_t i = 0; i < change->run.edit.revocation_count; i++)
        journal_confirm(journal, change->run.numbers_journaled[i]);
}

/* Reports PENDING unless the epoch was raised, since other nodes may not know yet. If the journal
 * failed too, only WAIT >= 1 counts as durable. A refusal stands even if its repeated invalidation
 * (user_update_invalidate_again()) failed. */
static void conclude_update(struct user_update *change)
{
    assert(change->run.owed == 0);
    struct operation *operation = change->operation;
    enum err err = ERR_OK;
    bool keeps = change->run.edit.revocation_count > 0;
    bool heard = change->run.epoch_err == ERR_OK;
    bool safe = change->run.kept || (heard && operation->out.durability == DURABILITY_REPLICATED);
    if (keeps && !safe)
        err = ERR_JOURNAL_UNAVAILABLE;
    else if (keeps && heard && operation_is_confirmed(operation))
        confirm_revocations(change);
    else if (keeps && !heard)
        operation->out.durability = DURABILITY_PENDING;
    else if (operation->out.err == ERR_OK)
        err = change->run.epoch_err;
    finish_update(change, err);
}

static void part_done(struct user_update *change)
{
    assert(change->run.owed > 0);
    if (--change->run.owed == 0)
        conclude_update(change);
}

static void epoch_raised(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct user_update *change = user_update_of(call);
    change->run.epoch_err = err;
    part_done(change);
}

static void raise_epoch(struct user_update *change)
{
    assert(change->run.edit.invalidates);
    struct operation *operation = change->operation;
    /* Keeps the epoch as long as any token of the user may be valid. */
    int64_t longest_s = operation_longest_life_s(operation);
    int64_t expire_ms = operation->now_ms + (longest_s + 60) * 1000;
    change->run.arguments = arena_alloc(operation->arena, 2 * sizeof(struct text));
    change->run.arguments[0] = print_argument(change, 0, operation->now_ms);
    change->run.arguments[1] = print_expiry_argument(change, 1, expire_ms);
    send_user_call(change, (struct text){change->run.epoch_key, KEYS_USER_LENGTH}, &epoch_script,
                   change->run.arguments, 2, STORE_REPEATABLE | STORE_DURABLE, epoch_raised);
}

static void journal_written(struct commit_ticket *ticket, bool written)
{
    struct user_update *change = container_of(ticket, struct user_update, run.ticket);
    change->run.kept = change->run.journaled && written;
    part_done(change);
}

/* The last ticket stands for all: the journal keeps their order. */
static void journal_revocations(struct user_update *change)
{
    assert(change->run.edit.revocation_count > 0);
    /* A change that ends tokens must reach the other nodes. */
    assert(change->run.edit.invalidates || change->run.edit.revocations[0].kind == REVOKE_LIFT);
    struct operation *operation = change->operation;
    struct journal_lane *lane = operation->context->worker->lane;
    size_t count = change->run.edit.revocation_count;
    change->run.numbers_journaled = arena_alloc(operation->arena, count * sizeof(uint64_t));
    change->run.journaled = true;
    change->run.ticket = (struct commit_ticket){.done = journal_written};
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        change->run.numbers_journaled[i] = 0;
        bool taken =
            journal_add(lane, &change->run.edit.revocations[i], last ? &change->run.ticket : NULL,
                        &change->run.numbers_journaled[i]);
        change->run.journaled = change->run.journaled && taken;
        change->run.owed += last && taken;
    }
}

/* This node drops its entries at once; the others do when the epoch is raised. */
static void follow_write(struct user_update *change)
{
    struct session_service *service = change->operation->context->worker->service;
    change->run.owed = 1;
    change->run.epoch_err = ERR_OK;
    change->run.journaled = change->run.kept = false;
    if (change->run.edit.invalidates) {
        freshness_note(service, &change->codec.owner, change->run.epoch);
        refresher_forget(service->refresher, &change->codec.owner);
    }
    if (change->run.edit.revocation_count > 0)
        journal_revocations(change);
    if (change->run.edit.invalidates) {
        change->run.owed++;
        raise_epoch(change);
    }
    part_done(change);
}

static void decide_and_write_user(struct user_update *change, const struct store_reply *reply);

static void note_durability(struct user_update *change)
{
    assert(change->run.call.flags & STORE_DURABLE);
    bool replicated = change->run.call.replicas > 0;
    change->operation->out.durability = replicated ? DURABILITY_REPLICATED : DURABILITY_ACCEPTED;
    if (!replicated)
        metrics_add(METRIC_WRITES_UNREPLICATED, 1);
}

static void user_written(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct user_update *change = user_update_of(call);
    if (err == ERR_STORE_UNAVAILABLE && clock_monotonic_ms() < change->operation->deadline_ms) {
        attempts_add(&change->run.attempts, change->operation->arena, change->run.edit.sets,
                     change->run.edit.set_count);
        send_user_read(change);
        return;
    }
    if (err != ERR_OK) {
        finish_update(change, err);
        return;
    }
    if (store_reply_type(reply) == STORE_ARRAY) {
        metrics_add(METRIC_STORE_CONFLICTS, 1);
        decide_and_write_user(change, reply);
        return;
    }
    note_durability(change);
    follow_write(change);
}

/* A state that Redis lost continues from its last known epoch. */
static int64_t next_version(const struct user_update *change, const struct user_state *state)
{
    int64_t before = state->version > 0 ? state->version : change->run.guard.floor_ms;
    return rules_next_version(before, change->operation->now_ms);
}

static struct text next_stamp(struct user_update *change, const struct user_state *state)
{
    struct arena *arena = change->run.edit.arena;
    int64_t version = change->run.edit.version;
    assert(version > state->version);
    bool begins =
        change->run.edit.invalidates || (state->version == 0 && change->run.guard.floor_ms > 0);
    change->run.epoch = begins ? version : state->epoch;
    if (change->run.epoch == 0)
        return arena_format(arena, "%" PRId64, version);
    return arena_format(arena, "%" PRId64 " %" PRId64, version, change->run.epoch);
}

/* An edit that removes a session's record keeps the user's names, if nothing else has them. */
static void keep_names(struct user_update *change, const struct user_state *state)
{
    struct operation *operation = change->operation;
    if (!change->run.edit.gives_up || (state->names.user_id.data && !state->names_outdated))
        return;
    operation_note_names(operation, state);
    const struct names names = {operation->facts.tenant, operation->facts.user_id};
    if (names.user_id.data)
        edit_set_names(&change->run.edit, &names);
}

/* Lua's unpack is limited by its stack to about 8000 values. A user has at most 1,000 sessions, so
 * at most 2,000 values are set and 3,000 fields deleted. */
static void send_edit(struct user_update *change, const struct user_state *state)
{
    assert(change->operation->out.err == ERR_OK);
    struct edit *edit = &change->run.edit;
    keep_names(change, state);
    size_t count = 4 + edit->set_count + edit->delete_count;
    struct text *arguments = arena_alloc(edit->arena, count * sizeof(*arguments));
    arguments[0] = state->stamp;
    arguments[1] = next_stamp(change, state);
    arguments[2] =
        edit->expire_ms == 0 ? TEXT("0") : print_expiry_argument(change, 2, edit->expire_ms);
    arguments[3] = print_argument(change, 3, (int64_t)edit->set_count);
    if (edit->set_count > 0)
        memcpy(arguments + 4, edit->sets, edit->set_count * sizeof(*arguments));
    if (edit->delete_count > 0)
        memcpy(arguments + 4 + edit->set_count, edit->deletes,
               edit->delete_count * sizeof(*arguments));
    send_user_call(change, (struct text){change->run.key, KEYS_USER_LENGTH}, &write_script,
                   arguments, count, STORE_DURABLE, user_written);
}

/* A user record that does not open may have held a cutoff, so older sessions count as revoked. */
static void distrust_old_sessions(struct user_update *change, struct user_state *state)
{
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    rules_end_before_now(state, &state->user, change->operation->now_ms);
    edit_set_user(&change->run.edit, &state->user);
}

/* A replay accepts a state that is behind: it comes to repair it. */
static enum err check_freshness(struct user_update *change, const struct user_state *state)
{
    struct session_service *service = change->operation->context->worker->service;
    enum err err = freshness_check(service, &change->run.guard, &change->codec.owner,
                                   state->version, state->epoch);
    return change->repairs ? ERR_OK : err;
}

static enum err open_user_reply(struct user_update *change, const struct store_reply *reply,
                                struct user_state *state)
{
    struct operation *operation = change->operation;
    enum err err = state_read(&change->codec, reply, operation->arena, state);
    if (err == ERR_OK && ++change->run.rounds > ROUNDS_MAX)
        err = ERR_STORE_CONTENDED;
    if (err == ERR_OK && clock_monotonic_ms() >= operation->deadline_ms)
        err = change->run.rounds > 1 ? ERR_STORE_CONTENDED : ERR_STORE_TIMEOUT;
    return err == ERR_OK ? check_freshness(change, state) : err;
}

static void begin_edit(struct user_update *change, struct user_state *state)
{
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    change->run.edit = (struct edit){.arena = operation->arena,
                                     .codec = &change->codec,
                                     .version = next_version(change, state),
                                     .trust = clock_trust(),
                                     .age_ms = operation_age_ms(operation)};
    if (state->user_unreadable)
        distrust_old_sessions(change, state);
    else if (state->user_outdated)
        edit_set_user(&change->run.edit, &state->user);
    operation_apply_policies(operation, state);
    change->applied =
        revocation_apply(operation, state, &change->codec.owner, &change->run.edit, &policy);
}

bool user_update_wrote(const struct user_update *change, const uint8_t session_id[SESSION_ID])
{
    const struct text field = {(const char *)session_id, SESSION_ID};
    const struct store_reply *reply = change->run.reply;
    assert(reply);
    for (size_t i = 0; change->run.attempts.before && i + 1 < store_reply_count(reply); i += 2)
        if (text_equal(store_reply_text(store_reply_element(reply, i)), field))
            return attempts_have(&change->run.attempts, field,
                                 store_reply_text(store_reply_element(reply, i + 1)));
    return false;
}

enum update_decision user_update_invalidate_again(struct user_update *change,
                                                  const struct user_state *state,
                                                  const uint8_t session_id[SESSION_ID],
                                                  struct edit *edit)
{
    const struct operation *operation = change->operation;
    const struct tombstone_entry *tombstone = state_find_tombstone(state, session_id);
    struct policy policy;
    operation_policy(operation, &policy);
    if (!tombstone || tombstone->tombstone.ended_s + policy.access_ttl < operation->now_ms / 1000)
        return UPDATE_DONE;
    edit->invalidates = true;
    return UPDATE_RESOLVED;
}

static void decide_and_write_user(struct user_update *change, const struct store_reply *reply)
{
    struct user_state state;
    enum err err = open_user_reply(change, reply, &state);
    if (err != ERR_OK) {
        finish_update(change, err);
        return;
    }
    begin_edit(change, &state);
    change->run.reply = reply;
    switch (change->ops->decide(change, &state, &change->run.edit)) {
    case UPDATE_WRITE:
        send_edit(change, &state);
        break;
    case UPDATE_RESOLVED:
        change->run.epoch = state.epoch;
        follow_write(change);
        break;
    case UPDATE_DONE:
        finish_update(change, ERR_OK);
        break;
    }
}

static void user_state_read(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct user_update *change = user_update_of(call);
    if (err == ERR_OK)
        decide_and_write_user(change, reply);
    else
        finish_update(change, err);
}

static void send_user_read(struct user_update *change)
{
    static const struct text command = {"HGETALL", 7};
    change->run.arguments = arena_alloc(change->operation->arena, 2 * sizeof(struct text));
    change->run.arguments[0] = command;
    change->run.arguments[1] = (struct text){change->run.key, KEYS_USER_LENGTH};
    send_user_call(change, change->run.arguments[1], NULL, change->run.arguments, 2,
                   STORE_REPEATABLE, user_state_read);
}

void user_update_init(struct user_update *change, const struct user_update_ops *ops,
                      struct operation *operation, const struct user_tag *owner)
{
    *change = (struct user_update){
        .ops = ops,
        .operation = operation,
        .codec = operation_codec(operation, owner),
    };
}

void user_update_begin(struct user_update *change)
{
    assert(change->ops && change->operation->tenancy);
    assert(change->operation->out.err == ERR_OK);
    keys_user(&change->codec.owner, KEYS_USER, change->run.key);
    keys_user(&change->codec.owner, KEYS_EPOCH, change->run.epoch_key);
    change->run.rounds = 0;
    change->run.attempts = (struct attempts){0};
    change->run.successor = change->run.last = NULL;
    struct user_update *rival = find_rival(change);
    if (rival) {
        queue_behind(rival, change);
        return;
    }
    change->run.next = change->operation->context->worker->changes;
    change->operation->context->worker->changes = change;
    send_user_read(change);
}

/* A touch outlives its request, so it is an object of its own. */
struct touch {
    struct store_call call;
    char key[KEYS_USER_LENGTH];
};

static void touch_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    if (err == ERR_OK)
        metrics_add(METRIC_TOUCHES, 1);
    free(call);
}

void user_update_touch(struct operation *operation, const struct user_tag *owner,
                       const uint8_t session_id[SESSION_ID], int64_t seen_s, int64_t expire_ms)
{
    assert(expire_ms > seen_s * 1000);
    struct touch *touch = xcalloc(1, sizeof(*touch));
    char field[TOUCH_FIELD], seen[24], expire[24];
    memcpy(field, session_id, SESSION_ID);
    field[SESSION_ID] = 't';
    keys_user(owner, KEYS_USER, touch->key);
    const struct text arguments[] = {
        {field, SESSION_ID},
        {field, TOUCH_FIELD},
        {seen, (size_t)snprintf(seen, sizeof(seen), "%" PRId64, seen_s)},
        {expire, (size_t)snprintf(expire, sizeof(expire), "%" PRId64, expire_ms)},
    };
    touch->call = (struct store_call){
        .key = {touch->key, KEYS_USER_LENGTH},
        .script = &touch_script,
        .arguments = arguments,
        .argument_count = 4,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = touch_done,
    };
    store_send(operation->context->worker->link, &touch->call);
}
