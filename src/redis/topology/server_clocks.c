/* The median of clocks, and its log lines. */
#include "server_clocks.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"
#include "metrics.h"
#include "store.h"

enum { TOGETHER_AGAIN_MS = CLOCKS_APART_MS / 2 /* the log does not flutter at the bound */ };

static int by_value(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

static bool clocks_agree(const int64_t *readings, size_t count, int64_t middle_ms)
{
    size_t agreeing = 0;
    for (size_t i = 0; i < count; i++)
        agreeing += readings[i] >= middle_ms - CLOCKS_APART_MS &&
                    readings[i] <= middle_ms + CLOCKS_APART_MS;
    return 2 * agreeing > count;
}

/* An even number has two middles; a majority contains at least one of them. */
bool server_clocks_median(int64_t *readings, size_t count, int64_t *ret)
{
    if (count == 0)
        return false;
    qsort(readings, count, sizeof(*readings), by_value);
    *ret = readings[(count - 1) / 2];
    if (clocks_agree(readings, count, *ret))
        return true;
    *ret = readings[count / 2];
    return clocks_agree(readings, count, *ret);
}

void server_clocks_begin(struct server_clocks *clocks, size_t asked)
{
    clocks->count = 0;
    clocks->asked = asked;
    clocks->answered = 0;
}

void server_clocks_note(struct server_clocks *clocks, const struct store_reply *reply,
                        int64_t asked_ms)
{
    int64_t seconds, microseconds, came_ms = clock_boot_ms();
    if (clocks->count >= CLOCKS_MOST || store_reply_type(reply) != STORE_ARRAY ||
        store_reply_count(reply) != 2 ||
        !store_reply_int(store_reply_element(reply, 0), 0, INT64_MAX / 2000, &seconds) ||
        !store_reply_int(store_reply_element(reply, 1), 0, 999999, &microseconds))
        return;
    /* The answer may be from before this host slept. */
    if (came_ms - asked_ms > CLOCKS_APART_MS)
        return;
    int64_t its_ms = seconds * 1000 + microseconds / 1000;
    clocks->readings[clocks->count++] = its_ms - (asked_ms + came_ms) / 2;
    clocks->answered++;
}

void server_clocks_note_denied(struct server_clocks *clocks, const char *host, unsigned port)
{
    if (!clocks->denied_logged) {
        log_warning("clock_not_told",
                    "host=%s port=%u Redis does not let this user ask TIME: without +time in its "
                    "ACL nobody notices a wrong clock",
                    host, port);
    }
    clocks->denied_logged = true;
    clocks->answered++;
    clock_untold();
}

bool server_clocks_asked(const struct server_clocks *clocks)
{
    return clocks->any || clocks->denied_logged;
}

static void tell_dispute(struct server_clocks *clocks, bool disputed)
{
    if (disputed && !clocks->disputed) {
        log_error("clock_disputed",
                  "readings=%zu no majority of the servers' clocks and this host's agrees within "
                  "%d ms: which is wrong cannot be told",
                  clocks->count, CLOCKS_APART_MS);
    }
    if (!disputed && clocks->disputed)
        log_info("clock_agreed", "readings=%zu", clocks->count);
    clocks->disputed = disputed;
}

static void tell_skew(struct server_clocks *clocks, int64_t skew_ms)
{
    int64_t size_ms = skew_ms < 0 ? -skew_ms : skew_ms;
    if (size_ms > CLOCKS_APART_MS && !clocks->apart) {
        clocks->apart = true;
        log_error("clock_apart",
                  "skew_ms=%lld this host's clock is %s common time, which holds instead of it",
                  (long long)skew_ms, skew_ms > 0 ? "ahead of" : "behind");
    } else if (size_ms <= TOGETHER_AGAIN_MS && clocks->apart) {
        clocks->apart = false;
        log_info("clock_together", "skew_ms=%lld", (long long)skew_ms);
    }
}

void server_clocks_conclude(struct server_clocks *clocks)
{
    const int64_t ns_of_ms = 1000000;
    int64_t ahead_ms;
    if (clocks->count == 0)
        return;
    clocks->readings[clocks->count++] = clock_host_ahead_ms();
    if (clocks->known)
        clocks->readings[clocks->count++] = clocks->kept_ahead_ms;
    bool agreed = server_clocks_median(clocks->readings, clocks->count, &ahead_ms);
    bool complete = clocks->answered >= clocks->asked || clocks->count >= CLOCKS_MOST;
    if (!agreed && !clocks->known && !complete)
        return;
    clocks->any = true;
    if (agreed) {
        clocks->known = true;
        clocks->kept_ahead_ms = ahead_ms;
        clock_agree(ahead_ms);
    } else {
        clock_dispute(clocks->readings[0]);
    }
    if (!clocks->logged)
        log_info("clock_compared", "readings=%zu skew_ms=%lld", clocks->count,
                 (long long)clock_skew_ms());
    clocks->logged = true;
    tell_dispute(clocks, !agreed);
    tell_skew(clocks, clock_skew_ms());
    metrics_gauge_set(METRIC_CLOCK_SKEW, clock_skew_ms() * ns_of_ms);
}
