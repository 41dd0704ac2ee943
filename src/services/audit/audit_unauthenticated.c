/* Calls without a genuine credential, which anyone can make as fast as the network carries them:
 * their budgets of lines, and the number of the others.
 *
 * Workers ask and count, each in its own lane; the thread adds up the counts and writes one line a
 * minute, at a rotation and at the stop. Lines and numbers together are the calls. A process that
 * is killed loses the counts it has not written. */
#include <assert.h>
#include <string.h>

#include "audit_private.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "ratelimit.h"

enum { NETWORKS = 16384, NODES = 1 };
enum { BURST_MINUTES = 5 };

void audit_unauthenticated_init(struct audit *audit)
{
    audit->networks = ratelimit_create(NETWORKS);
    audit->node = ratelimit_create(NODES);
    pthread_mutex_init(&audit->counted_lock, NULL);
    atomic_store(&audit->reported_free, -1);
}

void audit_unauthenticated_fini(struct audit *audit)
{
    ratelimit_destroy(&audit->networks);
    ratelimit_destroy(&audit->node);
    pthread_mutex_destroy(&audit->counted_lock);
}

/* --- the workers' side --- */

static bool is_within(struct ratelimit *limit, const void *name, size_t length, int64_t per_minute)
{
    struct rate rate = {per_minute, MINUTE_MS, BURST_MINUTES * per_minute};
    return per_minute == 0 ||
           ratelimit_take(limit, name, length, rate, clock_monotonic_ns()).allowed;
}

/* A client with one IPv6 address has all of its /64. */
static bool is_network_within(struct audit *audit, const struct ip_address *address)
{
    struct {
        uint8_t version, network[8];
    } name = {.version = address->family == AF_INET ? 4 : 6};
    memcpy(name.network, address->bytes, sizeof(name.network));
    return is_within(audit->networks, &name, sizeof(name),
                     atomic_load_explicit(&audit->strangers_per_address, memory_order_relaxed));
}

/* The network's budget comes first: a network that has spent it takes nothing from the others. */
bool audit_admits_unauthenticated(struct audit_lane *lane, const struct ip_address *address)
{
    struct audit *audit = lane->audit;
    return (!address || is_network_within(audit, address)) &&
           is_within(audit->node, "", 0,
                     atomic_load_explicit(&audit->strangers_per_minute, memory_order_relaxed));
}

void audit_count_unauthenticated(struct audit_lane *lane, int64_t wall_ms)
{
    audit_unauthenticated_merge(&lane->unauthenticated,
                                &(struct unauthenticated_count){1, wall_ms, wall_ms});
    metrics_add(METRIC_AUDIT_UNAUTHENTICATED, 1);
}

void audit_unauthenticated_merge(struct unauthenticated_count *to,
                                 struct unauthenticated_count *from)
{
    if (from->calls == 0)
        return;
    assert(from->calls > 0 && from->first_ms <= from->last_ms);
    if (to->calls == 0 || from->first_ms < to->first_ms)
        to->first_ms = from->first_ms;
    if (to->calls == 0 || from->last_ms > to->last_ms)
        to->last_ms = from->last_ms;
    to->calls += from->calls;
    *from = (struct unauthenticated_count){0};
}

void audit_unauthenticated_flush(struct audit_lane *lane)
{
    struct audit *audit = lane->audit;
    if (lane->unauthenticated.calls == 0)
        return;
    pthread_mutex_lock(&audit->counted_lock);
    audit_unauthenticated_merge(&audit->counted, &lane->unauthenticated);
    pthread_mutex_unlock(&audit->counted_lock);
}

/* --- the thread's side --- */

void audit_unauthenticated_gather(struct audit *audit)
{
    int64_t budget = atomic_load(&audit->strangers_per_minute);
    pthread_mutex_lock(&audit->counted_lock);
    audit_unauthenticated_merge(&audit->unauthenticated, &audit->counted);
    pthread_mutex_unlock(&audit->counted_lock);
    if (audit->unauthenticated.calls == 0)
        return;
    if (audit->unauthenticated_due_ms == 0)
        audit->unauthenticated_due_ms = clock_monotonic_ms() + MINUTE_MS;
    if (budget > 0 && audit->unauthenticated.calls > budget && !audit->unauthenticated_alerted) {
        audit->unauthenticated_alerted = true;
        atomic_store(&audit->reported_unauthenticated, audit->unauthenticated.calls);
    }
}

bool audit_unauthenticated_due(const struct audit *audit)
{
    return audit->unauthenticated.calls > 0 &&
           clock_monotonic_ms() >= audit->unauthenticated_due_ms;
}

void audit_unauthenticated_notice(const struct audit *audit, struct audit_notice *ret,
                                  struct audit_number *number)
{
    assert(audit->unauthenticated.calls > 0);
    *number = (struct audit_number){"sessiond.calls", audit->unauthenticated.calls};
    *ret = (struct audit_notice){.event = AUDIT_UNAUTHENTICATED,
                                 .wall_ms = clock_wall_ms(),
                                 .numbers = number,
                                 .number_count = 1,
                                 .start_ms = audit->unauthenticated.first_ms,
                                 .end_ms = audit->unauthenticated.last_ms};
}

void audit_unauthenticated_reported(struct audit *audit)
{
    assert(audit->unauthenticated.calls > 0);
    log_warning("audit_strangers_counted", "calls=%lld", (long long)audit->unauthenticated.calls);
    audit->unauthenticated = (struct unauthenticated_count){0};
    audit->unauthenticated_due_ms = 0;
    audit->unauthenticated_alerted = false;
}
