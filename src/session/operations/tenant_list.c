/* A page of a tenant's users with active sessions, from the index, then from each user's state.
 *
 *   count the buckets ──► read positions after last page ────► read those users' states ─┬─► page
 *                              ▲                                                         │
 *                              └──────────── users without an active session ◄───────────┘
 * The walk goes through the buckets in order, upwards by score. A user whose score grows meanwhile
 * moves ahead of the walk, so a user active all the time is seen at least once. A page's cost
 * depends on its size and on the idle users met. It removes these from the index, and looks at a
 * limited number of them. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/engine/tenant.h"
#include "session/engine/user_read.h"
#include "session/index/index.h"
#include "session/model/keys.h"
#include "session_list.h"

enum {
    LOOKED_AT_MOST = 300, /* users read for a page, including those without a session */
};

/* A user's position in the index, and the state read for it. */
struct candidate {
    struct index_position position;
    struct page *page;
    struct user_read read;
    struct listed_user user; /* count is 0: no active session */
};

struct bucket {
    struct store_call calls[2]; /* for the counts; then for the positions */
    struct page *page;
    char key[KEYS_BUCKET_LENGTH];
    int64_t from_low, from_sure; /* number of users from there on */
    size_t asked;                /* positions asked for in this round */
    struct candidate *candidates;
    size_t count;
    bool more; /* there are more after those */
};

struct page {
    struct list_tenant *list;
    struct waiter waiter;
    uint8_t tenant[TENANT_TAG];
    struct index_window window;
    struct index_position at; /* the last position looked at; score 0: the bucket's start */
    bool over;                /* nothing is after it */
    struct bucket buckets[INDEX_BUCKETS];
    size_t owed; /* replies in flight */
    enum err err;
    struct candidate *candidates; /* of this round */
    size_t candidate_count, looked_at;
};

static void next_round(struct page *page);

/* Counts a reply. True if it was the last, and all succeeded. */
static bool was_last_answer(struct page *page, enum err err)
{
    assert(page->owed > 0);
    if (err != ERR_OK && page->err == ERR_OK)
        page->err = err;
    if (--page->owed > 0)
        return false;
    if (page->err == ERR_OK)
        return true;
    page->list->base.out.err = page->err;
    naming_done(&page->list->base);
    return false;
}

static struct text print_score(char out[INDEX_NUMBER], int64_t score)
{
    return (struct text){out, (size_t)snprintf(out, INDEX_NUMBER, "%" PRId64, score)};
}

/* --- the end --- */

static int compare_users_by_login(const void *a, const void *b)
{
    const struct listed_user *first = a, *second = b;
    return memcmp(second->sessions[0].session_id.data, first->sessions[0].session_id.data,
                  2 * SESSION_ID);
}

static void end_page(struct page *page)
{
    assert(page->list->count <= (size_t)page->list->page_size);
    struct list_tenant *list = page->list;
    struct operation *operation = &list->base;
    for (size_t i = 0; i < INDEX_BUCKETS; i++) {
        const struct bucket *bucket = &page->buckets[i];
        list->total += bucket->from_low;
        if (bucket->from_low > bucket->from_sure)
            list->total_error += bucket->from_low - bucket->from_sure;
    }
    qsort(list->users, list->count, sizeof(*list->users), compare_users_by_login);
    assert(page->over || page->at.bucket < INDEX_BUCKETS);
    if (!page->over) {
        char *token = arena_alloc(operation->arena, PAGE_TOKEN_LENGTH);
        index_page_token_print(operation->context->keyring, page->tenant, &page->at, token);
        list->next_page_token = (struct text){token, PAGE_TOKEN_LENGTH};
    }
    naming_done(operation);
}

/* --- states --- */

static void take_user_state(struct candidate *candidate, struct user_state *state)
{
    struct operation *operation = &candidate->page->list->base;
    struct listed_user *user = &candidate->user;
    struct policy policy;
    session_list_prepare(operation, &candidate->read.owner, state);
    user->count = session_list_list(operation, state, NULL, &user->sessions);
    if (user->count > 0)
        user->user_id = state_names(state, operation->arena).user_id;
    operation_policy(operation, &policy);
    int64_t moment_s =
        index_moment_of_state(state, &policy, operation->tenancy->not_before_ms, operation->now_ms);
    if (index_moment_of_score(candidate->position.score) > moment_s)
        index_correct(operation, &candidate->read.owner, candidate->position.bucket);
}

static void collect_users(struct page *page)
{
    assert(page->owed == 0);
    struct list_tenant *list = page->list;
    for (size_t i = 0; i < page->candidate_count; i++)
        if (page->candidates[i].user.count > 0)
            list->users[list->count++] = page->candidates[i].user;
    page->looked_at += page->candidate_count;
    if (page->over || list->count == (size_t)list->page_size || page->looked_at >= LOOKED_AT_MOST)
        end_page(page);
    else
        next_round(page);
}

static void candidate_read(struct user_read *read, enum err err, struct user_state *state)
{
    struct candidate *candidate = container_of(read, struct candidate, read);
    if (err == ERR_OK)
        take_user_state(candidate, state);
    if (was_last_answer(candidate->page, err))
        collect_users(candidate->page);
}

static void read_states(struct page *page)
{
    for (size_t i = 0; i < page->candidate_count; i++) {
        struct candidate *candidate = &page->candidates[i];
        candidate->page = page;
        candidate->read.done = candidate_read;
        candidate->read.operation = &page->list->base;
        memcpy(candidate->read.owner.tenant, page->tenant, TENANT_TAG);
        memcpy(candidate->read.owner.user, candidate->position.user, USER_TAG);
        page->owed++;
        user_read_begin(&candidate->read, false);
    }
}

/* --- candidates --- */

/* True if this position is still to be looked at. Equal scores are ordered by member. */
static bool is_ahead(const struct page *page, const struct index_position *position)
{
    if (position->bucket != page->at.bucket || position->score > page->at.score)
        return true;
    return position->score == page->at.score && memcmp(position->user, page->at.user, USER_TAG) > 0;
}

static enum err take_candidates(struct bucket *bucket, unsigned number,
                                const struct store_reply *reply)
{
    struct page *page = bucket->page;
    size_t found = store_reply_count(reply) / 2;
    assert(bucket->asked > 0);
    bucket->candidates =
        arena_zalloc(page->list->base.arena, (found + 1) * sizeof(*bucket->candidates));
    bucket->count = 0;
    bucket->more = found >= bucket->asked;
    for (size_t i = 0; i < found; i++) {
        struct index_position position = {.bucket = (uint8_t)number};
        struct text member = store_reply_text(store_reply_element(reply, 2 * i));
        if (member.length != USER_TAG ||
            !index_read_score(store_reply_element(reply, 2 * i + 1), &position.score))
            return ERR_STORE_PROTOCOL;
        memcpy(position.user, member.data, USER_TAG);
        if (is_ahead(page, &position))
            bucket->candidates[bucket->count++].position = position;
    }
    return ERR_OK;
}

static size_t still_wanted(const struct page *page)
{
    assert(page->list->count <= (size_t)page->list->page_size);
    assert(page->looked_at <= LOOKED_AT_MOST);
    size_t wanted = (size_t)page->list->page_size - page->list->count;
    size_t left = LOOKED_AT_MOST - page->looked_at;
    return wanted < left ? wanted : left;
}

/* Takes a bucket's positions as far as wanted; true if its end was reached. */
static bool take_bucket(struct page *page, unsigned number, size_t wanted)
{
    assert(page->candidate_count <= wanted);
    const struct bucket *bucket = &page->buckets[number];
    size_t room = wanted - page->candidate_count;
    size_t taken = bucket->count < room ? bucket->count : room;
    if (bucket->asked == 0)
        return bucket->from_low == 0;
    if (taken > 0) {
        memcpy(page->candidates + page->candidate_count, bucket->candidates,
               taken * sizeof(struct candidate));
        page->candidate_count += taken;
        page->at = bucket->candidates[taken - 1].position;
    } else if (bucket->count == 0 && bucket->more) {
        page->at.score++; /* all those asked for had one score */
    }
    return taken == bucket->count && !bucket->more;
}

/* Collects the users of this round, in the order of the walk, up to the first gap. */
static void gather(struct page *page)
{
    assert(page->owed == 0);
    size_t wanted = still_wanted(page);
    unsigned number = page->at.bucket;
    page->candidates =
        arena_zalloc(page->list->base.arena, (wanted + 1) * sizeof(*page->candidates));
    page->candidate_count = 0;
    while (number < INDEX_BUCKETS && take_bucket(page, number, wanted))
        page->at = (struct index_position){.bucket = (uint8_t)++number};
    page->over = number == INDEX_BUCKETS;
}

/* All replies of the round are there. */
static void end_round(struct page *page, enum err err)
{
    if (!was_last_answer(page, err))
        return;
    gather(page);
    if (page->candidate_count > 0)
        read_states(page);
    else
        collect_users(page);
}

static void candidates_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct bucket *bucket = (struct bucket *)call;
    if (err == ERR_OK)
        err = take_candidates(bucket, (unsigned)(bucket - bucket->page->buckets), reply);
    end_round(bucket->page, err);
}

/* Asks for one more than wanted, to see whether there is another page. The last position comes
 * again. */
static void ask_bucket(struct page *page, struct bucket *bucket, int64_t from, size_t most)
{
    char low[INDEX_NUMBER], limit[INDEX_NUMBER];
    const struct text arguments[] = {
        TEXT("ZRANGE"),
        {bucket->key, KEYS_BUCKET_LENGTH},
        print_score(low, from),
        TEXT("+inf"),
        TEXT("BYSCORE"),
        TEXT("LIMIT"),
        TEXT("0"),
        print_score(limit, (int64_t)most),
        TEXT("WITHSCORES"),
    };
    bucket->asked = most;
    page->owed++;
    operation_ask(&page->list->base, &bucket->calls[0], arguments,
                  sizeof(arguments) / sizeof(arguments[0]), STORE_REPEATABLE, candidates_done);
}

/* Asks as many buckets as hold the wanted number, by their counts. */
static void next_round(struct page *page)
{
    int64_t wanted = (int64_t)still_wanted(page) + 1;
    for (unsigned i = 0; i < INDEX_BUCKETS; i++) {
        struct bucket *bucket = &page->buckets[i];
        bucket->asked = bucket->count = 0;
        bucket->more = false;
        if (i < page->at.bucket || wanted <= 0 || bucket->from_low == 0)
            continue;
        bool resumed = i == page->at.bucket && page->at.score >= page->window.low;
        ask_bucket(page, bucket, resumed ? page->at.score : page->window.low,
                   (size_t)wanted + (resumed ? 1 : 0));
        wanted -= bucket->from_low;
    }
    if (page->owed > 0)
        return;
    page->over = true; /* no counted user is left */
    end_page(page);
}

/* --- counts --- */

static enum err read_count(enum err err, const struct store_reply *reply, int64_t *count)
{
    return err == ERR_OK && !store_reply_int(reply, 0, UINT32_MAX, count) ? ERR_STORE_PROTOCOL
                                                                          : err;
}

static void sure_counted(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct bucket *bucket = container_of(call, struct bucket, calls[1]);
    end_round(bucket->page, read_count(err, reply, &bucket->from_sure));
}

static void ask_count(struct page *page, struct bucket *bucket, size_t which, int64_t from,
                      store_done_fn *done)
{
    char low[INDEX_NUMBER];
    const struct text arguments[] = {
        TEXT("ZCOUNT"), {bucket->key, KEYS_BUCKET_LENGTH}, print_score(low, from), TEXT("+inf")};
    page->owed++;
    operation_ask(&page->list->base, &bucket->calls[which], arguments, 4, STORE_REPEATABLE, done);
}

/* Users who may have been idle for too long are counted where there are users, with the first
 * round. */
static void low_counted(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct page *page = ((struct bucket *)call)->page;
    if (!was_last_answer(page, read_count(err, reply, &((struct bucket *)call)->from_low)))
        return;
    for (unsigned i = 0; i < INDEX_BUCKETS; i++)
        if (page->buckets[i].from_low > 0)
            ask_count(page, &page->buckets[i], 1, page->window.sure, sure_counted);
    next_round(page);
}

static void count_users(struct page *page)
{
    for (unsigned i = 0; i < INDEX_BUCKETS; i++) {
        struct bucket *bucket = &page->buckets[i];
        bucket->page = page;
        keys_bucket(KEYS_INDEX, page->tenant, i, bucket->key);
        ask_count(page, bucket, 0, page->window.low, low_counted);
    }
}

static void list_users_in_tenant(struct waiter *waiter)
{
    struct page *page = container_of(waiter, struct page, waiter);
    struct operation *operation = &page->list->base;
    if (operation->out.err != ERR_OK) {
        naming_done(operation);
        return;
    }
    page->window = index_window(operation);
    count_users(page);
}

void session_list_tenant(struct list_tenant *list)
{
    struct operation *operation = &list->base;
    const struct keyring *keyring = operation->context->keyring;
    struct page *page = arena_zalloc(operation->arena, sizeof(*page));
    operation->facts.tenant = list->tenant;
    page->list = list;
    token_tag_tenant(keyring, list->tenant, page->tenant);
    if (list->page_token.data &&
        !index_page_token_read(keyring, page->tenant, list->page_token, &page->at)) {
        operation->out.err = ERR_QUERY_INVALID;
        operation->out.detail = TEXT("\"page_token\" is none that a page of this tenant has given");
        naming_done(operation);
        return;
    }
    list->users = arena_zalloc(operation->arena, (size_t)list->page_size * sizeof(*list->users));
    tenant_enter(operation, page->tenant, waiter_of(&page->waiter, list_users_in_tenant));
}
