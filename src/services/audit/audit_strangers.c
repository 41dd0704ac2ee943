/* Calls without a genuine credential, which anybody can make as fast as the network carries them:
 * who of them gets a line, and what is told of the others.
 *
 * Workers ask and count, each in its own lane; the thread adds the counts up and writes one line a
 * minute, at a rotation and at the stop. Lines and numbers together are the calls. A process that
 * is killed forgets what it has only counted. */
#include <assert.h>
#include <string.h>

#include "audit_private.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "ratelimit.h"

enum { NETWORKS = 16384, NODES = 1 };
enum { MINUTE_MS = 60000, BURST_MINUTES = 5 };

void audit_strangers_init(struct audit *audit)
{
    audit->networks = ratelimit_create(NETWORKS);
    audit->node = ratelimit_create(NODES);
    pthread_mutex_init(&audit->counted_lock, NULL);
    atomic_store(&audit->told_free, -1);
}

void audit_strangers_fini(struct audit *audit)
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

/* Whoever has one IPv6 address has all of its /64. */
static bool is_network_within(struct audit *audit, const struct ip_address *address)
{
    struct {
        uint8_t version, network[8];
    } name = {.version = address->family == AF_INET ? 4 : 6};
    memcpy(name.network, address->bytes, sizeof(name.network));
    return is_within(audit->networks, &name, sizeof(name),
                     atomic_load_explicit(&audit->strangers_per_address, memory_order_relaxed));
}

/* The network is asked first, so that one that has spent its own takes nothing of the others'. */
bool audit_admits_stranger(struct audit_lane *lane, const struct ip_address *address)
{
    struct audit *audit = lane->audit;
    return (!address || is_network_within(audit, address)) &&
           is_within(audit->node, "", 0,
                     atomic_load_explicit(&audit->strangers_per_minute, memory_order_relaxed));
}

void audit_count_stranger(struct audit_lane *lane, int64_t wall_ms)
{
    audit_strangers_merge(&lane->strangers, &(struct stranger_count){1, wall_ms, wall_ms});
    metrics_add(METRIC_AUDIT_STRANGERS, 1);
}

void audit_strangers_merge(struct stranger_count *to, struct stranger_count *from)
{
    if (from->calls == 0)
        return;
    assert(from->calls > 0 && from->first_ms <= from->last_ms);
    if (to->calls == 0 || from->first_ms < to->first_ms)
        to->first_ms = from->first_ms;
    if (to->calls == 0 || from->last_ms > to->last_ms)
        to->last_ms = from->last_ms;
    to->calls += from->calls;
    *from = (struct stranger_count){0};
}

void audit_strangers_flush(struct audit_lane *lane)
{
    struct audit *audit = lane->audit;
    if (lane->strangers.calls == 0)
        return;
    pthread_mutex_lock(&audit->counted_lock);
    audit_strangers_merge(&audit->counted, &lane->strangers);
    pthread_mutex_unlock(&audit->counted_lock);
}

/* --- the thread's side --- */

void audit_strangers_look(struct audit *audit)
{
    int64_t budget = atomic_load(&audit->strangers_per_minute);
    pthread_mutex_lock(&audit->counted_lock);
    audit_strangers_merge(&audit->strangers, &audit->counted);
    pthread_mutex_unlock(&audit->counted_lock);
    if (audit->strangers.calls == 0)
        return;
    if (audit->strangers_due_ms == 0)
        audit->strangers_due_ms = clock_monotonic_ms() + MINUTE_MS;
    if (budget > 0 && audit->strangers.calls > budget && !audit->strangers_alerted) {
        audit->strangers_alerted = true;
        atomic_store(&audit->told_strangers, audit->strangers.calls);
    }
}

bool audit_strangers_due(const struct audit *audit)
{
    return audit->strangers.calls > 0 && clock_monotonic_ms() >= audit->strangers_due_ms;
}

void audit_strangers_notice(const struct audit *audit, struct audit_notice *ret,
                            struct audit_number *number)
{
    assert(audit->strangers.calls > 0);
    *number = (struct audit_number){"sessiond.calls", audit->strangers.calls};
    *ret = (struct audit_notice){.event = AUDIT_STRANGERS,
                                 .wall_ms = clock_wall_ms(),
                                 .numbers = number,
                                 .number_count = 1,
                                 .start_ms = audit->strangers.first_ms,
                                 .end_ms = audit->strangers.last_ms};
}

void audit_strangers_told(struct audit *audit)
{
    assert(audit->strangers.calls > 0);
    log_warning("audit_strangers_counted", "calls=%lld", (long long)audit->strangers.calls);
    audit->strangers = (struct stranger_count){0};
    audit->strangers_due_ms = 0;
    audit->strangers_alerted = false;
}
