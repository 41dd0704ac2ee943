/* A page of a tenant's users with living sessions: out of the index, then out of each user's state.
 *
 *   count the buckets ──► read places behind the last page ──► read those users' states ─┬─► page
 *                              ▲                                                         │
 *                              └──────────── users without a living session ◄────────────┘
 * The walk goes through the buckets one after the other, upwards by score: a user whose score grows
 * meanwhile is ahead and not behind, so whoever is there all the time is seen at least once. What a
 * page costs depends on its size alone, and on how many it finds to be over, of which it looks at
 * so many at most and takes them out of the index. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/engine/index.h"
#include "session_list.h"
#include "session/engine/tenant.h"
#include "session/engine/user_read.h"

enum {
    LOOKED_AT_MOST = 300, /* users of a page, those without a session among them */
    NUMBER = 24
};

/* A user's place in the index, and the state that was asked for. */
struct place {
    struct index_position position;
    struct page *page;
    struct user_read read;
    struct listed_user user; /* count is 0: no living session */
};

struct bucket {
    struct store_call calls[2]; /* counts; then the places */
    struct page *page;
    char key[INDEX_KEY_LENGTH];
    int64_t from_low, from_sure; /* how many there are */
    size_t asked;                /* places asked for in this round */
    struct place *locations;
    size_t count;
    bool more; /* behind those */
};

struct page {
    struct list_tenant *list;
    struct waiter waiter;
    uint8_t tenant[TENANT_TAG];
    struct index_window window;
    struct index_position at; /* what was looked at last; score 0: the bucket's start */
    bool over;                /* nothing is behind it */
    struct bucket buckets[INDEX_BUCKETS];
    size_t owed; /* answers under way */
    enum err err;
    struct place *locations; /* of this round */
    size_t place_count, looked_at;
};

static void next_round(struct page *page);

/* Counts an answer; true if it was the last, and all went well. */
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

static struct text print_score(char out[NUMBER], int64_t score)
{
    return (struct text){out, (size_t)snprintf(out, NUMBER, "%" PRId64, score)};
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

static void take_user_state(struct place *place, struct user_state *state)
{
    struct operation *operation = &place->page->list->base;
    struct listed_user *user = &place->user;
    struct policy policy;
    session_list_prepare(operation, &place->read.owner, state);
    user->count = session_list_list(operation, state, NULL, &user->sessions);
    if (user->count > 0)
        user->user_id = state_names(state, operation->arena).user_id;
    operation_policy(operation, &policy);
    int64_t moment_s =
        index_moment_of_state(state, &policy, operation->tenancy->not_before_ms, operation->now_ms);
    if (index_moment_of_score(place->position.score) > moment_s)
        index_settle(operation, &place->read.owner, place->position.bucket);
}

static void collect_users(struct page *page)
{
    assert(page->owed == 0);
    struct list_tenant *list = page->list;
    for (size_t i = 0; i < page->place_count; i++)
        if (page->locations[i].user.count > 0)
            list->users[list->count++] = page->locations[i].user;
    page->looked_at += page->place_count;
    if (page->over || list->count == (size_t)list->page_size || page->looked_at >= LOOKED_AT_MOST)
        end_page(page);
    else
        next_round(page);
}

static void place_read(struct user_read *read, enum err err, struct user_state *state)
{
    struct place *place = container_of(read, struct place, read);
    if (err == ERR_OK)
        take_user_state(place, state);
    if (was_last_answer(place->page, err))
        collect_users(place->page);
}

static void read_states(struct page *page)
{
    for (size_t i = 0; i < page->place_count; i++) {
        struct place *place = &page->locations[i];
        place->page = page;
        place->read.done = place_read;
        place->read.operation = &page->list->base;
        memcpy(place->read.owner.tenant, page->tenant, TENANT_TAG);
        memcpy(place->read.owner.user, place->position.user, USER_TAG);
        page->owed++;
        user_read_begin(&place->read, false);
    }
}

/* --- places --- */

/* Is this place still to be looked at? Equal scores go by member. */
static bool is_ahead(const struct page *page, const struct index_position *position)
{
    if (position->bucket != page->at.bucket || position->score > page->at.score)
        return true;
    return position->score == page->at.score && memcmp(position->user, page->at.user, USER_TAG) > 0;
}

static enum err take_places(struct bucket *bucket, unsigned number, const struct store_reply *reply)
{
    struct page *page = bucket->page;
    size_t found = store_reply_count(reply) / 2;
    assert(bucket->asked > 0);
    bucket->locations =
        arena_zalloc(page->list->base.arena, (found + 1) * sizeof(*bucket->locations));
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
            bucket->locations[bucket->count++].position = position;
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

/* Takes over what is wanted of a bucket; true if it is looked at to its end. */
static bool take_bucket(struct page *page, unsigned number, size_t wanted)
{
    assert(page->place_count <= wanted);
    const struct bucket *bucket = &page->buckets[number];
    size_t room = wanted - page->place_count;
    size_t taken = bucket->count < room ? bucket->count : room;
    if (bucket->asked == 0)
        return bucket->from_low == 0;
    if (taken > 0) {
        memcpy(page->locations + page->place_count, bucket->locations,
               taken * sizeof(struct place));
        page->place_count += taken;
        page->at = bucket->locations[taken - 1].position;
    } else if (bucket->count == 0 && bucket->more) {
        page->at.score++; /* as many with one score as were asked for */
    }
    return taken == bucket->count && !bucket->more;
}

/* Puts together what this round looks at: in the order of the walk, as far as it has no gaps. */
static void gather(struct page *page)
{
    assert(page->owed == 0);
    size_t wanted = still_wanted(page);
    unsigned number = page->at.bucket;
    page->locations = arena_zalloc(page->list->base.arena, (wanted + 1) * sizeof(*page->locations));
    page->place_count = 0;
    while (number < INDEX_BUCKETS && take_bucket(page, number, wanted))
        page->at = (struct index_position){.bucket = (uint8_t)++number};
    page->over = number == INDEX_BUCKETS;
}

/* What was asked together is there. */
static void end_round(struct page *page, enum err err)
{
    if (!was_last_answer(page, err))
        return;
    gather(page);
    if (page->place_count > 0)
        read_states(page);
    else
        collect_users(page);
}

static void places_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct bucket *bucket = (struct bucket *)call;
    if (err == ERR_OK)
        err = take_places(bucket, (unsigned)(bucket - bucket->page->buckets), reply);
    end_round(bucket->page, err);
}

/* One more than is wanted tells whether there is another page; what was looked at last comes again.
 */
static void ask_bucket(struct page *page, struct bucket *bucket, int64_t from, size_t most)
{
    char low[NUMBER], limit[NUMBER];
    const struct text arguments[] = {
        TEXT("ZRANGE"),
        {bucket->key, INDEX_KEY_LENGTH},
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
                  sizeof(arguments) / sizeof(arguments[0]), STORE_REPEATABLE, places_done);
}

/* Asks so many buckets as hold what is wanted, by their counts. */
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
    page->over = true; /* nobody is left in what was counted */
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
    char low[NUMBER];
    const struct text arguments[] = {
        TEXT("ZCOUNT"), {bucket->key, INDEX_KEY_LENGTH}, print_score(low, from), TEXT("+inf")};
    page->owed++;
    operation_ask(&page->list->base, &bucket->calls[which], arguments, 4, STORE_REPEATABLE, done);
}

/* Those that may have been idle for too long are counted where there is anybody, with the first
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
        index_key(INDEX_USERS, page->tenant, i, bucket->key);
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
