/* Counts of tenants, kept for a moment by each node. */
#include "quota.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "index.h"
#include "metrics.h"
#include "session/engine/service.h"
#include "session/model/freezing.h"
#include "session/model/keys.h"

enum { ROWS = 1024 };

enum counted { USERS, FROZEN, REMEMBERED, SESSIONS, PENDING, COUNTED };
enum {
    OF_USERS = SESSIONS, /* number of counts by quota.users, which come first */
    KEYS = COUNTED * INDEX_BUCKETS
};

/* A tenant's counts. The next tenant with the same row replaces it. */
struct row {
    uint8_t tag[TENANT_TAG];
    bool known;
    int64_t asked_ms;        /* clock_boot_ms() of the latest read; 0: none */
    uint64_t kept;           /* number of the read that made counts; later reads replace it */
    int64_t counts[COUNTED]; /* as that read found them ... */
    int64_t before[COUNTED]; /* ... when so many had been let in ... */
    int64_t let_in[COUNTED]; /* ... and so many have been by now */
};

struct quotas {
    pthread_mutex_t lock; /* held to copy a row; only for tenants with a quota */
    uint64_t begun;       /* reads */
    struct row rows[ROWS];
};

/* A read's number, and how many had been let in when it began. */
struct begun {
    uint64_t number;
    int64_t before[COUNTED];
};

/* One read of all counts of a tenant. */
struct reading;
struct count_call {
    struct store_call call;
    struct reading *reading;
    int64_t *sum;
    char key[KEYS_BUCKET_LENGTH];
};

struct reading {
    struct operation *operation;
    struct waiter *waiter;
    uint8_t tag[TENANT_TAG];
    struct begun begun;
    int64_t counts[COUNTED];
    size_t owed;
    enum err err;
    struct count_call calls[KEYS];
};

struct quotas *quota_create(void)
{
    struct quotas *quotas = xcalloc(1, sizeof(*quotas));
    pthread_mutex_init(&quotas->lock, NULL);
    return quotas;
}

void quota_destroy(struct quotas **quotas)
{
    if (*quotas)
        pthread_mutex_destroy(&(*quotas)->lock);
    free(*quotas);
    *quotas = NULL;
}

static struct quotas *quotas_of(const struct operation *operation)
{
    return operation->context->worker->service->quotas;
}

/* The tenant's row. Call with the lock held. */
static struct row *quota_row(struct quotas *quotas, const uint8_t tag[TENANT_TAG])
{
    uint64_t number = 0;
    memcpy(&number, tag, TENANT_TAG);
    struct row *row = &quotas->rows[number % ROWS];
    if (memcmp(row->tag, tag, TENANT_TAG) != 0) {
        *row = (struct row){.kept = quotas->begun};
        memcpy(row->tag, tag, TENANT_TAG);
    }
    return row;
}

/* True if the caller is to read: the last read is old, or nothing is known. */
static bool is_due(struct quotas *quotas, const uint8_t tag[TENANT_TAG], struct begun *ret)
{
    int64_t now_ms = clock_boot_ms();
    pthread_mutex_lock(&quotas->lock);
    struct row *row = quota_row(quotas, tag);
    bool due = !row->known || now_ms - row->asked_ms >= QUOTA_FRESH_MS;
    if (due) {
        row->asked_ms = now_ms;
        ret->number = ++quotas->begun;
        memcpy(ret->before, row->let_in, sizeof(ret->before));
    }
    pthread_mutex_unlock(&quotas->lock);
    return due;
}

/* Stores the counts. They include users let in before the read began; later ones are added. */
static void keep_counts(const struct reading *reading)
{
    assert(reading->owed == 0 && reading->err == ERR_OK);
    struct quotas *quotas = quotas_of(reading->operation);
    pthread_mutex_lock(&quotas->lock);
    struct row *row = quota_row(quotas, reading->tag);
    if (reading->begun.number > row->kept) {
        row->known = true;
        row->kept = reading->begun.number;
        memcpy(row->counts, reading->counts, sizeof(row->counts));
        memcpy(row->before, reading->begun.before, sizeof(row->before));
    }
    pthread_mutex_unlock(&quotas->lock);
}

static void key_counted(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct count_call *counted = (struct count_call *)call;
    struct reading *reading = counted->reading;
    assert(reading->owed > 0);
    int64_t count = 0;
    if (err == ERR_OK && !store_reply_int(reply, 0, UINT32_MAX, &count))
        err = ERR_STORE_PROTOCOL;
    if (err != ERR_OK)
        reading->err = err;
    *counted->sum += count;
    if (--reading->owed > 0)
        return;
    if (reading->err == ERR_OK)
        keep_counts(reading);
    waiter_go_on(reading->waiter);
}

/* Score range of the members that count, as Redis takes it. */
struct range {
    char least[INDEX_NUMBER], most[INDEX_NUMBER];
};

static struct range range_of(const struct operation *operation, enum counted kind)
{
    int64_t now_s = operation->now_ms / 1000;
    struct range range = {.most = "+inf"};
    int64_t least = index_window(operation).low;
    if (kind == FROZEN || kind == PENDING)
        least = now_s + 1;
    if (kind == REMEMBERED) {
        least = now_s - FREEZING_REMEMBERED_S;
        snprintf(range.most, INDEX_NUMBER, "%" PRId64, now_s);
    }
    snprintf(range.least, INDEX_NUMBER, "%" PRId64, least);
    return range;
}

static void count_key(struct reading *reading, struct count_call *counted,
                      const struct range *range)
{
    const struct text key = {counted->key, KEYS_BUCKET_LENGTH};
    const struct text arguments[] = {TEXT("ZCOUNT"), key, text_of(range->least),
                                     text_of(range->most)};
    counted->reading = reading;
    operation_ask(reading->operation, &counted->call, arguments, 4, STORE_REPEATABLE, key_counted);
}

static void count_quota_sets(struct reading *reading, enum counted kind)
{
    static const enum keys_kind sets[COUNTED] = {KEYS_INDEX, KEYS_FROZEN, KEYS_FROZEN,
                                                 KEYS_SESSIONS, KEYS_PENDING};
    struct range range = range_of(reading->operation, kind);
    for (unsigned bucket = 0; bucket < INDEX_BUCKETS; bucket++) {
        struct count_call *counted = &reading->calls[kind * INDEX_BUCKETS + bucket];
        keys_bucket(sets[kind], reading->tag, bucket, counted->key);
        counted->sum = &reading->counts[kind];
        count_key(reading, counted, &range);
    }
}

void quota_enter(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                 const struct policy *policy, struct waiter *waiter)
{
    assert(waiter->then);
    bool counts = policy->quota_users > 0 || policy->quota_sessions > 0;
    struct begun begun;
    if (!counts || !is_due(quotas_of(operation), tenant, &begun)) {
        waiter_go_on(waiter);
        return;
    }
    struct reading *reading = arena_zalloc(operation->arena, sizeof(*reading));
    unsigned first = policy->quota_users > 0 ? 0 : OF_USERS;
    unsigned end = policy->quota_sessions > 0 ? COUNTED : OF_USERS;
    assert(first < end);
    reading->operation = operation;
    reading->begun = begun;
    reading->waiter = waiter;
    memcpy(reading->tag, tenant, TENANT_TAG);
    reading->owed = (size_t)(end - first) * INDEX_BUCKETS;
    for (unsigned kind = first; kind < end; kind++)
        count_quota_sets(reading, (enum counted)kind);
}

/* --- what is let in --- */

static int64_t sum_of(const struct row *row, enum counted kind)
{
    assert(row->let_in[kind] >= row->before[kind]);
    return row->counts[kind] + row->let_in[kind] - row->before[kind];
}

struct refusal {
    const char *what, *member;
    int64_t count, quota;
    enum metric metric;
};

static struct refusal judge_quota(const struct row *row, const struct policy *policy,
                                  struct quota_wish wish)
{
    const int64_t users = sum_of(row, USERS) + sum_of(row, FROZEN);
    const int64_t remembered = sum_of(row, REMEMBERED);
    const int64_t sessions = sum_of(row, SESSIONS) + sum_of(row, PENDING);
    bool of_users = policy->quota_users > 0, of_sessions = policy->quota_sessions > 0;
    if (of_users && wish.user && users >= policy->quota_users)
        return (struct refusal){"users with a session or frozen", "quota.users", users,
                                policy->quota_users, METRIC_QUOTA_USERS};
    if (of_users && wish.remembered && remembered >= policy->quota_users)
        return (struct refusal){"users whose freeze was lifted or ran out within a year",
                                "quota.users", remembered, policy->quota_users, METRIC_QUOTA_USERS};
    if (of_sessions && wish.session && sessions >= policy->quota_sessions)
        return (struct refusal){"sessions and logins that await additional verification",
                                "quota.sessions", sessions, policy->quota_sessions,
                                METRIC_QUOTA_SESSIONS};
    return (struct refusal){0};
}

static void refuse_quota(struct operation *operation, const struct refusal *refusal)
{
    metrics_add(refusal->metric, 1);
    operation_refuse(operation, ERR_TENANT_QUOTA, (struct text){0});
    operation->out.detail = arena_format(
        operation->arena, "The tenant has %" PRId64 " %s; \"%s\" of its policy allows %" PRId64,
        refusal->count, refusal->what, refusal->member, refusal->quota);
}

bool quota_admits(struct operation *operation, const uint8_t tenant[TENANT_TAG],
                  const struct policy *policy, struct quota_wish wish)
{
    struct quotas *quotas = quotas_of(operation);
    if (policy->quota_users == 0 && policy->quota_sessions == 0)
        return true;
    pthread_mutex_lock(&quotas->lock);
    struct row *row = quota_row(quotas, tenant);
    struct refusal refusal = judge_quota(row, policy, wish);
    if (!refusal.what) {
        row->let_in[USERS] += wish.user;
        row->let_in[SESSIONS] += wish.session;
        row->let_in[REMEMBERED] += wish.remembered && !wish.user;
    }
    pthread_mutex_unlock(&quotas->lock);
    if (refusal.what)
        refuse_quota(operation, &refusal);
    return !refusal.what;
}
