/* The engine of read, decide, compare-and-set; and the three scripts. */
#include "change.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "challenge.h"
#include "clock.h"
#include "index.h"
#include "keeper.h"
#include "metrics.h"
#include "operation.h"
#include "revocation.h"
#include "rules.h"
#include "tenant_change.h"

/* Rounds of one change. Every conflict means that another change of the user went through, so the
 * limit is reached only under absurd contention; the deadline usually comes first. */
#define ROUNDS_MAX 500

/* KEYS[1] the user's hash. ARGV: expected stamp ("0": no hash), new stamp, expiry in ms (0: none),
 * number of arguments that are fields and values to set; what follows those is deleted. Returns 1,
 * or on conflict the hash as it is. */
static struct store_script write_script = {
    .source = "local found = redis.call('HGET', KEYS[1], '!') or '0'\n"
              "if found ~= ARGV[1] then return redis.call('HGETALL', KEYS[1]) end\n"
              "local last = 4 + tonumber(ARGV[4])\n"
              "redis.call('HSET', KEYS[1], '!', ARGV[2], unpack(ARGV, 5, last))\n"
              "if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end\n"
              "if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1])\n"
              "else redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end\n"
              "return 1\n",
};

/* KEYS[1] the epoch. ARGV: least value, expiry in ms. Never goes back, never expires earlier than
 * before. */
static struct store_script epoch_script = {
    .source = "local present = redis.call('GET', KEYS[1])\n"
              "local value = math.max(tonumber(present or '0') + 1, tonumber(ARGV[1]))\n"
              "local text = string.format('%.0f', value)\n"
              "if present then\n"
              "  redis.call('SET', KEYS[1], text, 'KEEPTTL')\n"
              "  redis.call('PEXPIREAT', KEYS[1], ARGV[2], 'GT')\n"
              "else redis.call('SET', KEYS[1], text, 'PXAT', ARGV[2]) end\n"
              "return value\n",
};

/* KEYS[1] the user's hash. ARGV: session id, its touch field, seconds, expiry in ms. */
static struct store_script touch_script = {
    .source = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end\n"
              "redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])\n"
              "redis.call('PEXPIREAT', KEYS[1], ARGV[4], 'GT')\n"
              "return 1\n",
};

void session_prepare(void)
{
    store_script_prepare(&write_script);
    store_script_prepare(&epoch_script);
    store_script_prepare(&touch_script);
    index_prepare();
    tenant_change_prepare();
    challenge_prepare();
}

static struct change *change_of(struct store_call *call)
{
    return (struct change *)((char *)call - offsetof(struct change, call));
}

static struct text print_number(struct change *change, size_t slot, int64_t value)
{
    char *digits = change->numbers[slot];
    int length = snprintf(digits, sizeof(change->numbers[slot]), "%" PRId64, value);
    return (struct text){digits, (size_t)length};
}

static void read_again(struct change *change);

/* The change of the same user that is under way, NULL if there is none. */
static struct change *find_rival(const struct change *change)
{
    struct change *rival = change->operation->context->worker->changes;
    while (rival && memcmp(&rival->codec.owner, &change->codec.owner, sizeof(struct user_tag)) != 0)
        rival = rival->next;
    return rival;
}

static void queue_behind(struct change *rival, struct change *change)
{
    struct change *last = rival->last ? rival->last : rival;
    last->successor = change;
    rival->last = change;
}

/* Takes the change out of those under way and puts its successor, if there is one, in its place. */
static struct change *replace_by_successor(struct change *change)
{
    struct change **place = &change->operation->context->worker->changes;
    while (*place != change)
        place = &(*place)->next;
    struct change *successor = change->successor;
    if (successor) {
        successor->next = change->next;
        successor->last = change->last != successor ? change->last : NULL;
    }
    *place = successor ? successor : change->next;
    return successor;
}

/* Starts the successor before the change is gone. One whose deadline has passed while it waited
 * ends in the same loop: a hung store may have left a long row of them. */
static void change_finish(struct change *change, enum err err)
{
    while (change) {
        struct change *successor = replace_by_successor(change);
        bool closing = change->operation->context->worker->closing;
        bool late =
            successor && (closing || clock_monotonic_ms() >= successor->operation->deadline_ms);
        if (successor && !late)
            read_again(successor);
        if (err != ERR_OK)
            change->operation->err = err;
        change->finish(change);
        change = late ? successor : NULL;
        err = closing ? ERR_SHUTTING_DOWN : ERR_STORE_TIMEOUT;
    }
}

static void send_call(struct change *change, struct text key, const struct store_script *script,
                      const struct text *arguments, size_t count, unsigned flags,
                      void (*done)(struct store_call *, enum err, const struct store_reply *))
{
    struct fence *fence = change->operation->context->worker->service->fence;
    change->fence_ms = fence_of(fence, &change->codec.owner, clock_wall_ms());
    change->call = (struct store_call){
        .key = key,
        .script = script,
        .arguments = arguments,
        .argument_count = count,
        .flags = flags,
        .deadline_ms = change->operation->deadline_ms,
        .done = done,
    };
    store_send(change->operation->context->worker->link, &change->call);
}

/* --- behind the write --- */

static void settle(struct change *change)
{
    struct journal *journal = change->operation->context->worker->service->journal;
    for (size_t i = 0; i < change->revocation_count; i++)
        journal_settle(journal, change->numbers_journaled[i]);
}

/* With redis.wait_timeout = 0 the operator says that there is no replica to wait for. */
static bool is_settled(const struct operation *operation)
{
    return operation->durability == DURABILITY_REPLICATED ||
           operation->conf->redis_wait_timeout == 0;
}

/* Durability tells the truth: with the epoch not raised other nodes may not know yet; with nothing
 * on this node's disk only a replica's word counts. */
static void conclude(struct change *change)
{
    struct operation *operation = change->operation;
    enum err err = ERR_OK;
    bool keeps = change->revocation_count > 0;
    bool heard = change->epoch_err == ERR_OK;
    bool safe = change->kept || (heard && operation->durability == DURABILITY_REPLICATED);
    if (keeps && !safe)
        err = ERR_JOURNAL_UNAVAILABLE;
    else if (keeps && heard && is_settled(operation))
        settle(change);
    else if (keeps && !heard)
        operation->durability = DURABILITY_PENDING;
    else
        err = change->epoch_err;
    change_finish(change, err);
}

static void part_done(struct change *change)
{
    if (--change->owed == 0)
        conclude(change);
}

static void epoch_raised(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    struct change *change = change_of(call);
    change->epoch_err = err;
    part_done(change);
}

static void raise_epoch(struct change *change)
{
    struct operation *operation = change->operation;
    /* Nobody asks for the epoch of a user of whom no token can be alive. */
    int64_t longest_s = policy_longest_life(operation->conf, operation->tenancy->policy);
    int64_t expire_ms = operation->now_ms + (longest_s + 60) * 1000;
    change->arguments = arena_alloc(operation->arena, 2 * sizeof(struct text));
    change->arguments[0] = print_number(change, 0, operation->now_ms);
    change->arguments[1] = print_number(change, 1, expire_ms);
    send_call(change, (struct text){change->epoch_key, USER_KEY_LENGTH}, &epoch_script,
              change->arguments, 2, STORE_REPEATABLE | STORE_DURABLE, epoch_raised);
}

static void journal_written(struct journal_ticket *ticket, bool written)
{
    struct change *change = (struct change *)((char *)ticket - offsetof(struct change, ticket));
    change->kept = change->journaled && written;
    part_done(change);
}

/* The last one's ticket stands for all: the journal keeps their order. */
static void journal_revocations(struct change *change)
{
    struct operation *operation = change->operation;
    struct journal_writer *writer = operation->context->worker->writer;
    size_t count = change->revocation_count;
    change->numbers_journaled = arena_alloc(operation->arena, count * sizeof(uint64_t));
    change->journaled = true;
    change->ticket = (struct journal_ticket){.done = journal_written};
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        change->numbers_journaled[i] = 0;
        bool taken = journal_add(writer, &change->revocations[i], last ? &change->ticket : NULL,
                                 &change->numbers_journaled[i]);
        change->journaled = change->journaled && taken;
        change->owed += last && taken;
    }
}

/* This node knows at once; the others hear of the epoch. */
static void follow_write(struct change *change)
{
    struct session_service *service = change->operation->context->worker->service;
    change->owed = 1;
    change->epoch_err = ERR_OK;
    change->journaled = change->kept = false;
    if (change->edit.raises_epoch) {
        fence_raise(service->fence, &change->codec.owner, change->epoch, clock_wall_ms());
        keeper_forget(service->keeper, &change->codec.owner);
    }
    if (change->revocation_count > 0)
        journal_revocations(change);
    if (change->edit.raises_epoch) {
        change->owed++;
        raise_epoch(change);
    }
    part_done(change);
}

static void decide_and_write(struct change *change, const struct store_reply *reply);

static void note_durability(struct change *change)
{
    bool replicated = change->call.replicas > 0;
    change->operation->durability = replicated ? DURABILITY_REPLICATED : DURABILITY_ACCEPTED;
    if (!replicated)
        metrics_add(METRIC_WRITES_UNREPLICATED, 1);
}

static void write_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct change *change = change_of(call);
    if (err == ERR_STORE_UNAVAILABLE && clock_monotonic_ms() < change->operation->deadline_ms) {
        change->resolving = true;
        read_again(change);
        return;
    }
    if (err != ERR_OK) {
        change_finish(change, err);
        return;
    }
    if (store_reply_type(reply) == STORE_ARRAY) {
        metrics_add(METRIC_STORE_CONFLICTS, 1);
        decide_and_write(change, reply);
        return;
    }
    note_durability(change);
    follow_write(change);
}

static struct text next_stamp(struct change *change, const struct user_state *state)
{
    struct arena *arena = change->edit.arena;
    /* What Redis has forgotten goes on where it ended, as far as this node remembers. */
    int64_t before = state->version > 0 ? state->version : change->fence_ms;
    int64_t version = rules_next_version(before, change->operation->now_ms);
    bool begins = change->edit.raises_epoch || (state->version == 0 && change->fence_ms > 0);
    change->epoch = begins ? version : state->epoch;
    if (change->epoch == 0)
        return arena_format(arena, "%" PRId64, version);
    return arena_format(arena, "%" PRId64 " %" PRId64, version, change->epoch);
}

/* Lua's unpack takes what fits its stack: about 8000 values. A user has at most 1,000 sessions, so
 * that at most 2,000 are set and 3,000 deleted. */
static void send_edit(struct change *change, const struct user_state *state)
{
    struct edit *edit = &change->edit;
    size_t count = 4 + edit->set_count + edit->delete_count;
    struct text *arguments = arena_alloc(edit->arena, count * sizeof(*arguments));
    arguments[0] = state->stamp;
    arguments[1] = next_stamp(change, state);
    arguments[2] = print_number(change, 2, edit->expire_ms);
    arguments[3] = print_number(change, 3, (int64_t)edit->set_count);
    if (edit->set_count > 0)
        memcpy(arguments + 4, edit->sets, edit->set_count * sizeof(*arguments));
    if (edit->delete_count > 0)
        memcpy(arguments + 4 + edit->set_count, edit->deletes,
               edit->delete_count * sizeof(*arguments));
    send_call(change, (struct text){change->key, USER_KEY_LENGTH}, &write_script, arguments, count,
              STORE_DURABLE, write_done);
}

/* A user record that does not open may have said that older sessions are dead: then they are. */
static void distrust(struct change *change, struct user_state *state)
{
    metrics_add(METRIC_RECORDS_UNREADABLE, 1);
    rules_end_before_now(state, &state->user, change->operation->now_ms);
    edit_set_user(&change->edit, &state->user);
}

/* A state that is older than one seen before is nothing to build on. No state at all is: it shows
 * nobody alive. */
static bool is_behind(struct change *change, const struct user_state *state)
{
    struct fence *fence = change->operation->context->worker->service->fence;
    if (state->version > 0 && state->epoch < change->fence_ms && !change->repairs) {
        metrics_add(METRIC_STORE_BEHIND, 1);
        return true;
    }
    fence_raise(fence, &change->codec.owner, state->epoch, clock_wall_ms());
    return false;
}

static enum err read_state(struct change *change, const struct store_reply *reply,
                           struct user_state *state)
{
    struct operation *operation = change->operation;
    enum err err = state_read(&change->codec, reply, operation->arena, state);
    if (err == ERR_OK && ++change->attempts > ROUNDS_MAX)
        err = ERR_STORE_CONTENDED;
    if (err == ERR_OK && clock_monotonic_ms() >= operation->deadline_ms)
        err = change->attempts > 1 ? ERR_STORE_CONTENDED : ERR_STORE_TIMEOUT;
    if (err == ERR_OK && is_behind(change, state))
        err = ERR_STORE_BEHIND;
    return err;
}

static void begin_edit(struct change *change, struct user_state *state)
{
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    change->edit = (struct edit){.arena = operation->arena, .codec = &change->codec};
    change->revocation_count = 0;
    if (state->user_unreadable)
        distrust(change, state);
    else if (state->user_outdated)
        edit_set_user(&change->edit, &state->user);
    operation_apply_policies(operation, state);
    change->applied =
        revocation_apply(operation, state, &change->codec.owner, &change->edit, &policy);
}

enum verdict change_ended(struct change *change, const struct user_state *state,
                          const uint8_t session_id[SESSION_ID], struct edit *edit)
{
    const struct operation *operation = change->operation;
    const struct grave *grave = state_find_grave(state, session_id);
    struct policy policy;
    operation_policy(operation, &policy);
    if (!grave || grave->tombstone.ended_s + policy.access_ttl < operation->now_ms / 1000)
        return CHANGE_DONE;
    edit->raises_epoch = true;
    return CHANGE_RESOLVED;
}

static void decide_and_write(struct change *change, const struct store_reply *reply)
{
    struct user_state state;
    enum err err = read_state(change, reply, &state);
    if (err != ERR_OK) {
        change_finish(change, err);
        return;
    }
    begin_edit(change, &state);
    switch (change->decide(change, &state, &change->edit)) {
    case CHANGE_WRITE:
        send_edit(change, &state);
        break;
    case CHANGE_RESOLVED:
        change->epoch = state.epoch;
        follow_write(change);
        break;
    case CHANGE_DONE:
        change_finish(change, ERR_OK);
        break;
    }
}

static void read_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct change *change = change_of(call);
    if (err == ERR_OK)
        decide_and_write(change, reply);
    else
        change_finish(change, err);
}

static void read_again(struct change *change)
{
    static const struct text command = {"HGETALL", 7};
    change->arguments = arena_alloc(change->operation->arena, 2 * sizeof(struct text));
    change->arguments[0] = command;
    change->arguments[1] = (struct text){change->key, USER_KEY_LENGTH};
    send_call(change, change->arguments[1], NULL, change->arguments, 2, STORE_REPEATABLE,
              read_done);
}

void change_begin(struct change *change)
{
    token_user_key(&change->codec.owner, 'u', change->key);
    token_user_key(&change->codec.owner, 'e', change->epoch_key);
    change->attempts = 0;
    change->resolving = false;
    change->successor = change->last = NULL;
    struct change *rival = find_rival(change);
    if (rival) {
        queue_behind(rival, change);
        return;
    }
    change->next = change->operation->context->worker->changes;
    change->operation->context->worker->changes = change;
    read_again(change);
}

/* A touch outlives the request that caused it: it is an object of its own. */
struct touch {
    struct store_call call;
    char key[USER_KEY_LENGTH];
};

static void touch_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    (void)reply;
    if (err == ERR_OK)
        metrics_add(METRIC_TOUCHES, 1);
    free(call);
}

void change_touch(struct operation *operation, const struct user_tag *owner,
                  const uint8_t session_id[SESSION_ID], int64_t seen_s, int64_t expire_ms)
{
    struct touch *touch = xcalloc(1, sizeof(*touch));
    char field[TOUCH_FIELD], seen[24], expire[24];
    memcpy(field, session_id, SESSION_ID);
    field[SESSION_ID] = 't';
    token_user_key(owner, 'u', touch->key);
    const struct text arguments[] = {
        {field, SESSION_ID},
        {field, TOUCH_FIELD},
        {seen, (size_t)snprintf(seen, sizeof(seen), "%" PRId64, seen_s)},
        {expire, (size_t)snprintf(expire, sizeof(expire), "%" PRId64, expire_ms)},
    };
    touch->call = (struct store_call){
        .key = {touch->key, USER_KEY_LENGTH},
        .script = &touch_script,
        .arguments = arguments,
        .argument_count = 4,
        .flags = STORE_REPEATABLE,
        .deadline_ms = operation->deadline_ms,
        .done = touch_done,
    };
    store_send(operation->context->worker->link, &touch->call);
}
