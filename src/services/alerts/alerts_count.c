/* Events that are an alert only when there are many within a minute. */
#include <string.h>

#include "address.h"
#include "alerts_private.h"
#include "clock.h"

enum { NETWORK_MAX = INET6_ADDRSTRLEN + 4 };
/* A service key may name any operator, so the key has a limit too: that of this many operators. */
enum { OPERATORS_OF_KEY = 3 };

/* Counts under the name; true beyond the limit. *ret is the whole count the first time, 1 from then
 * on. */
static bool is_too_much(struct alerts *alerts, uint64_t name, int64_t limit, int64_t *ret)
{
    pthread_mutex_lock(&alerts->lock);
    int64_t count = minutes_count(alerts->counts, name, 1, clock_monotonic_ms());
    pthread_mutex_unlock(&alerts->lock);
    *ret = count == limit + 1 ? count : 1;
    return count > limit;
}

/* A client with one IPv6 address has all of its /64, so that is counted and reported. */
static struct text network_text(struct text address, char out[NETWORK_MAX])
{
    struct ip_address parsed;
    if (!ip_parse(address, &parsed) || parsed.family != AF_INET6)
        return address;
    memset(parsed.bytes + 8, 0, 8);
    struct text printed = ip_print(&parsed, out);
    memcpy(out + printed.length, "/64", 3);
    return (struct text){out, printed.length + 3};
}

void alerts_count_guess(struct alerts *alerts, struct text client)
{
    char network[NETWORK_MAX];
    struct text address = network_text(client, network);
    struct alert alert = {.kind = ALERT_KEY_GUESSING, .address = address};
    int64_t limit = alerts ? atomic_load(&alerts->guesses) : 0;
    if (limit > 0 &&
        is_too_much(alerts, alerts_name(alerts, 'g', &address, 1), limit, &alert.count))
        alerts_raise(alerts, &alert);
}

/* True if more than `limit` different users were ended under the name (one or two texts). */
static bool are_too_many_users(struct alerts *alerts, char kind, const struct text name[2],
                               const struct forced_logout *logout, int64_t limit, int64_t *ret)
{
    const struct text user[] = {name[0], name[1], logout->tenant, logout->user_id};
    int64_t ignored;
    if (is_too_much(alerts, alerts_name(alerts, kind, user, 4), 1, &ignored))
        return false; /* the same user again */
    return is_too_much(alerts, alerts_name(alerts, kind, name, 2), limit, ret);
}

void alerts_count_forced_logout(struct alerts *alerts, const struct forced_logout *logout)
{
    const struct text actor[] = {logout->key, logout->actor};
    const struct text key[] = {logout->key, {0}};
    struct alert alert = {.kind = ALERT_FORCED_LOGOUTS,
                          .tenant = logout->key_tenant,
                          .actor = logout->actor,
                          .address = logout->address};
    int64_t limit = alerts ? atomic_load(&alerts->forced_logouts) : 0;
    int64_t count_of_key;
    if (limit > 0 && logout->user_id.length == 0) {
        alert.tenant = logout->tenant;
        alert.detail = TEXT("One operator ended the sessions of all users of a tenant");
        alerts_raise(alerts, &alert);
        return;
    }
    if (limit == 0)
        return;
    bool by_key =
        are_too_many_users(alerts, 'k', key, logout, limit * OPERATORS_OF_KEY, &count_of_key);
    bool by_actor = are_too_many_users(alerts, 'a', actor, logout, limit, &alert.count);
    if (by_key && !by_actor) {
        alert.actor = logout->key;
        alert.count = count_of_key;
    }
    if (by_key || by_actor)
        alerts_raise(alerts, &alert);
}
