/* Passes over the journal. */
#include "replay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "session/engine/background.h"
#include "session/engine/operation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/model/keys.h"
#include "session/model/rules.h"

enum {
    LIST_AT_ONCE = 256,
    UNDER_WAY_MOST = 64,
    COMPARED_AT_ONCE = 200,  /* confirmed ones, then a pause: so a server that has just */
    COMPARED_PAUSE_MS = 100, /* come back gets at most 2,000 a second */
    LOOKED_AT_ONCE = 2048,   /* per loop turn: a longer turn would make calls look slow */
    FUTILE_MOST = 64,        /* replays in a row without a result, then a pause */
    PAUSE_FIRST_MS = 500,
    PAUSE_MOST_MS = 5 * 1000,
    RECENT_MS = 10 * 60 * 1000 /* age of writes that a server may have lost while away */
};

/* Slots in doubt: their confirmed revocations are compared too. */
struct doubt {
    bool any;
    uint8_t all[SLOT_COUNT / 8], recent[SLOT_COUNT / 8];
};

struct replay {
    const struct session_context *context;
    uv_timer_t timer;
    bool stopped;

    struct doubt doubt, next_doubt; /* of the present pass; of the next one */
    bool passing;
    uint64_t before; /* the pass has come down to this number */
    struct arena arena;
    struct revocation *list; /* of the pass, in the arena */
    size_t list_count, list_at;
    size_t looked; /* in this turn of the loop */
    size_t under_way;
    unsigned compared; /* confirmed ones since the last pause for them */
    unsigned futile;
    bool fruitful; /* the pass has confirmed something */
    int64_t pause_ms;
    int64_t resting_until_ms;
};

/* One owner's revocations, being replayed. */
struct item {
    struct operation operation;
    struct background background;
    struct user_update change;
    struct waiter waiter;
    struct replay *replay;
    struct revocation *unconfirmed;
    size_t unconfirmed_count;
};

/* --- one owner --- */

static unsigned replay_slot_of(const struct user_tag *owner)
{
    char key[KEYS_USER_LENGTH];
    keys_user(owner, KEYS_USER, key);
    return store_slot((struct text){key, KEYS_USER_LENGTH});
}

static enum update_decision decide_replay(struct user_update *change, struct user_state *state,
                                          struct edit *edit)
{
    struct item *item = container_of(change, struct item, change);
    struct policy policy;
    if (!change->applied && item->unconfirmed_count == 0)
        return UPDATE_DONE;
    operation_policy(&item->operation, &policy);
    /* If the tenant's policy is unknown, nothing may be tidied up. */
    if (item->operation.tenancy_unknown)
        edit->expire_ms =
            item->operation.now_ms + operation_longest_life_s(&item->operation) * 1000;
    else
        rules_tidy(edit, state, NULL, &policy, item->operation.now_ms);
    edit->invalidates = true;
    return UPDATE_WRITE;
}

/* A server without a replica confirms nothing. There a revocation counts as confirmed when no token
 * that it revokes can be valid, or it would never be. */
static bool is_confirmed(const struct item *item, size_t i)
{
    return operation_is_confirmed(&item->operation) ||
           item->unconfirmed[i].forget_s < clock_deletion_ms() / 1000;
}

/* Counts the item's revocations that are confirmed now. */
static size_t count_confirmed(const struct item *item)
{
    struct journal *journal = item->background.context.worker->service->journal;
    size_t count = 0;
    for (size_t i = 0; i < item->unconfirmed_count; i++) {
        if (!is_confirmed(item, i))
            continue;
        journal_confirm(journal, item->unconfirmed[i].number);
        count++;
    }
    return count;
}

/* Revocations that could not be compared stay in doubt for the next pass. */
static void doubt_again(struct item *item)
{
    struct doubt *doubt = &item->replay->next_doubt;
    unsigned slot = replay_slot_of(&item->change.codec.owner);
    doubt->any = true;
    doubt->all[slot / 8] |= (uint8_t)(1u << slot % 8);
}

static void count_outcome(struct item *item)
{
    struct replay *replay = item->replay;
    const struct operation *operation = &item->operation;
    metrics_add(METRIC_JOURNAL_REPLAYS, 1);
    if (operation->out.err == ERR_OK && item->change.applied)
        metrics_add(METRIC_JOURNAL_REPAIRS, 1);
    bool confirms = operation->out.err == ERR_OK && count_confirmed(item) > 0;
    bool of_use = confirms || (operation->out.err == ERR_OK &&
                               (item->change.applied || item->unconfirmed_count == 0));
    if (operation->out.err != ERR_OK && replay->doubt.any)
        doubt_again(item);
    replay->futile = of_use ? 0 : replay->futile + 1;
    replay->fruitful = replay->fruitful || confirms;
}

static void finish_replay(struct user_update *change)
{
    struct item *item = container_of(change, struct item, change);
    struct replay *replay = item->replay;
    count_outcome(item);
    assert(replay->under_way > 0);
    replay->under_way--;
    if (!replay->stopped)
        uv_timer_start(&replay->timer, replay->timer.timer_cb, 0, 0);
    background_end(&item->background, &item->operation);
    free(item);
}

static const struct user_update_ops replay_ops = {decide_replay, finish_replay};

static void replay_with_tenant(struct waiter *waiter)
{
    struct item *item = container_of(waiter, struct item, waiter);
    if (item->operation.out.err != ERR_OK)
        finish_replay(&item->change);
    else
        user_update_begin(&item->change);
}

static void begin_item(struct replay *replay, const struct revocation *revocation)
{
    assert(replay->under_way < UNDER_WAY_MOST);
    assert(!replay->stopped);
    struct item *item = xcalloc(1, sizeof(*item));
    struct session_service *service = replay->context->worker->service;
    size_t count;
    item->replay = replay;
    background_begin(&item->background, &item->operation, replay->context->worker,
                     replay->context->keyring);
    item->operation.actor = TEXT("journal");
    struct revocation *all =
        journal_of_owner(service->journal, revocation->owner, item->operation.arena, &count);
    item->unconfirmed = arena_alloc(item->operation.arena, (count + 1) * sizeof(*all));
    for (size_t i = 0; i < count; i++)
        if (!all[i].confirmed)
            item->unconfirmed[item->unconfirmed_count++] = all[i];
    struct user_tag owner;
    memcpy(&owner, revocation->owner, sizeof(owner));
    user_update_init(&item->change, &replay_ops, &item->operation, &owner);
    item->change.repairs = true;
    replay->under_way++;
    tenant_enter_or_defaults(&item->operation, owner.tenant,
                             waiter_of(&item->waiter, replay_with_tenant));
}

/* --- the pass --- */

static bool is_doubted(const struct replay *replay, const struct revocation *revocation)
{
    struct user_tag owner;
    if (!revocation->confirmed)
        return true;
    assert(replay->doubt.any); /* or none of these were listed */
    memcpy(&owner, revocation->owner, sizeof(owner));
    unsigned slot = replay_slot_of(&owner);
    uint8_t bit = (uint8_t)(1u << slot % 8);
    bool recent = revocation->at_ms > clock_deletion_ms() - RECENT_MS;
    return (replay->doubt.all[slot / 8] & bit) ||
           (recent && (replay->doubt.recent[slot / 8] & bit));
}

/* False if there are no more. */
static bool fetch_list(struct replay *replay)
{
    struct journal *journal = replay->context->worker->service->journal;
    arena_reset(&replay->arena);
    replay->list = arena_alloc(&replay->arena, LIST_AT_ONCE * sizeof(*replay->list));
    replay->list_count = journal_list(journal, replay->before, !replay->doubt.any, &replay->arena,
                                      replay->list, LIST_AT_ONCE);
    replay->list_at = 0;
    return replay->list_count > 0;
}

/* The next revocation to replay. NULL at the end, or (*later) if other work must have its turn. */
static const struct revocation *next_revocation(struct replay *replay, bool *later)
{
    assert(replay->list_at <= replay->list_count);
    for (;;) {
        *later = replay->looked++ >= LOOKED_AT_ONCE;
        if (*later)
            return NULL;
        if (replay->list_at == replay->list_count && !fetch_list(replay))
            return NULL;
        const struct revocation *revocation = &replay->list[replay->list_at++];
        assert(revocation->number < replay->before);
        replay->before = revocation->number;
        if (is_doubted(replay, revocation))
            return revocation;
    }
}

static void begin_pass(struct replay *replay)
{
    replay->passing = true;
    replay->doubt = replay->next_doubt;
    replay->next_doubt = (struct doubt){0};
    replay->before = UINT64_MAX;
    replay->list_count = replay->list_at = 0;
    replay->futile = 0;
}

/* The pauses grow while passes confirm nothing. */
static void pause_pass(struct replay *replay, bool of_use)
{
    int64_t longer_ms = replay->pause_ms * 2;
    replay->pause_ms = of_use ? PAUSE_FIRST_MS : longer_ms;
    if (replay->pause_ms > PAUSE_MOST_MS)
        replay->pause_ms = PAUSE_MOST_MS;
    replay->futile = 0;
    replay->fruitful = false;
    uv_timer_start(&replay->timer, replay->timer.timer_cb, (uint64_t)replay->pause_ms, 0);
}

static void end_pass(struct replay *replay)
{
    assert(replay->passing && replay->under_way == 0);
    struct journal_usage usage;
    journal_usage(replay->context->worker->service->journal, &usage);
    replay->passing = false;
    if (replay->doubt.any)
        log_info("journal_compared", "revocations=%zu unsettled=%zu", usage.records,
                 usage.unconfirmed);
    bool nothing_left = usage.unconfirmed == 0 && !replay->next_doubt.any;
    pause_pass(replay, nothing_left || replay->fruitful);
}

static void rest(struct replay *replay)
{
    replay->compared = 0;
    replay->resting_until_ms = clock_monotonic_ms() + COMPARED_PAUSE_MS;
    uv_timer_start(&replay->timer, replay->timer.timer_cb, COMPARED_PAUSE_MS, 0);
}

/* Replays that finish meanwhile do not end the pause. */
static bool is_resting(struct replay *replay)
{
    int64_t left_ms = replay->resting_until_ms - clock_monotonic_ms();
    if (left_ms > 0)
        uv_timer_start(&replay->timer, replay->timer.timer_cb, (uint64_t)left_ms, 0);
    return left_ms > 0;
}

static void continue_pass(struct replay *replay)
{
    if (!replay->passing)
        begin_pass(replay);
    bool later;
    while (replay->under_way < UNDER_WAY_MOST && replay->futile < FUTILE_MOST) {
        const struct revocation *revocation = next_revocation(replay, &later);
        if (later) {
            /* Not 0: libuv runs a timer that is due again before it looks at sockets. */
            uv_timer_start(&replay->timer, replay->timer.timer_cb, 1, 0);
            return;
        }
        if (!revocation) {
            if (replay->under_way == 0)
                end_pass(replay);
            return;
        }
        begin_item(replay, revocation);
        if (revocation->confirmed && ++replay->compared >= COMPARED_AT_ONCE) {
            rest(replay);
            return;
        }
    }
    if (replay->under_way == 0) {
        assert(replay->futile >= FUTILE_MOST);
        pause_pass(replay, replay->fruitful);
    }
}

static void on_replay_timer(uv_timer_t *timer)
{
    struct replay *replay = timer->data;
    assert(!replay->stopped);
    replay->looked = 0;
    if (!is_resting(replay))
        continue_pass(replay);
}

/* --- lifetime --- */

struct replay *replay_create(const struct session_context *context, uv_loop_t *loop)
{
    struct replay *replay = xcalloc(1, sizeof(*replay));
    replay->context = context;
    replay->pause_ms = PAUSE_FIRST_MS;
    uv_timer_init(loop, &replay->timer);
    replay->timer.data = replay;
    uv_timer_start(&replay->timer, on_replay_timer, PAUSE_FIRST_MS, 0);
    return replay;
}

static void add_slots(uint8_t *to, const uint8_t *slots)
{
    for (size_t i = 0; i < SLOT_COUNT / 8; i++)
        to[i] |= slots[i];
}

void replay_doubt(struct replay *replay, const uint8_t slots[SLOT_COUNT / 8], bool owner_changed)
{
    struct doubt *doubt = &replay->next_doubt;
    assert(!replay->stopped);
    doubt->any = true;
    add_slots(owner_changed ? doubt->all : doubt->recent, slots);
    /* Restarts the pass: the newest revocations matter most. */
    if (replay->passing) {
        add_slots(doubt->all, replay->doubt.all);
        add_slots(doubt->recent, replay->doubt.recent);
    }
    replay->passing = false;
    replay->pause_ms = PAUSE_FIRST_MS;
    replay->resting_until_ms = 0;
    uv_timer_start(&replay->timer, on_replay_timer, 0, 0);
}

void replay_stop(struct replay *replay)
{
    replay->stopped = true;
    uv_close((uv_handle_t *)&replay->timer, NULL);
}

void replay_destroy(struct replay **replay)
{
    struct replay *gone = *replay;
    *replay = NULL;
    assert(gone && gone->under_way == 0);
    arena_free(&gone->arena);
    free(gone);
}
