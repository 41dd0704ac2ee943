/* A small table under a mutex that is only taken when something is wrong, or was. */
#include "connect_log.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"

enum { TELL_INTERVAL_MS = 10000 };

void trouble_init(struct trouble *trouble, enum trouble_kind kind)
{
    trouble->kind = kind;
    pthread_mutex_init(&trouble->lock, NULL);
    atomic_init(&trouble->active, 0);
}

void trouble_free(struct trouble *trouble)
{
    pthread_mutex_destroy(&trouble->lock);
}

static struct trouble_server *find(struct trouble *trouble, const struct endpoint *endpoint)
{
    for (size_t i = 0; i < TROUBLE_SERVERS; i++)
        if (endpoint_equal(&trouble->servers[i].endpoint, endpoint))
            return &trouble->servers[i];
    return NULL;
}

/* The server's place, or the one that was noted longest ago, made its own. When lines may be logged
 * stays with the place: more servers than there are places get no more lines. */
static struct trouble_server *find_or_take(struct trouble *trouble, const struct endpoint *endpoint)
{
    struct trouble_server *found = find(trouble, endpoint);
    if (found)
        return found;
    found = &trouble->servers[0];
    for (size_t i = 1; i < TROUBLE_SERVERS; i++)
        if (trouble->servers[i].noted_ms < found->noted_ms)
            found = &trouble->servers[i];
    if (found->why[0])
        atomic_fetch_sub(&trouble->active, 1);
    *found = (struct trouble_server){.endpoint = *endpoint, .told_ms = found->told_ms};
    return found;
}

static void set_reason(struct trouble *trouble, struct trouble_server *server, const char *why,
                       bool lasting)
{
    if (!server->why[0])
        atomic_fetch_add(&trouble->active, 1);
    snprintf(server->why, sizeof(server->why), "%s", why);
    server->lasting = lasting;
    server->untold = false;
    server->noted_ms = clock_monotonic_ms();
}

void trouble_note(struct trouble *trouble, const struct endpoint *endpoint, const char *why)
{
    pthread_mutex_lock(&trouble->lock);
    struct trouble_server *server = find_or_take(trouble, endpoint);
    bool recent = clock_monotonic_ms() - server->noted_ms < TELL_INTERVAL_MS;
    if (!server->lasting || !recent)
        set_reason(trouble, server, why, false);
    pthread_mutex_unlock(&trouble->lock);
}

/* True if it is to be told now. */
static bool note_lasting(struct trouble *trouble, const struct endpoint *endpoint, const char *why)
{
    struct trouble_server *server = find_or_take(trouble, endpoint);
    int64_t now_ms = clock_monotonic_ms();
    bool recent = server->told_ms && now_ms - server->told_ms < TELL_INTERVAL_MS;
    if (server->lasting && strcmp(server->why, why) == 0) {
        server->noted_ms = now_ms;
    } else if (!recent || !server->why[0]) {
        set_reason(trouble, server, why, true);
        server->untold = true;
    }
    if (!server->untold || recent)
        return false;
    server->untold = false;
    server->told_ms = now_ms;
    return true;
}

static void log_trouble(enum trouble_kind kind, const struct endpoint *endpoint, const char *why)
{
    switch (kind) {
    case TROUBLE_CONNECT:
        log_error("store_connect_failed", "host=%s port=%u why=\"%s\"", endpoint->host,
                  endpoint->port, why);
        break;
    case TROUBLE_ERROR:
        log_error("store_error", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port, why);
        break;
    case TROUBLE_UNFIT:
        log_warning("store_unfit", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port,
                    why);
        break;
    case TROUBLE_FOREIGN:
        log_error("store_foreign", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port,
                  why);
        break;
    }
}

void trouble_tell(struct trouble *trouble, const struct endpoint *endpoint, const char *why)
{
    pthread_mutex_lock(&trouble->lock);
    bool tell = note_lasting(trouble, endpoint, why);
    pthread_mutex_unlock(&trouble->lock);
    if (tell)
        log_trouble(trouble->kind, endpoint, why);
}

void trouble_over(struct trouble *trouble, const struct endpoint *endpoint)
{
    if (atomic_load_explicit(&trouble->active, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&trouble->lock);
    struct trouble_server *server = find(trouble, endpoint);
    if (server && server->why[0]) {
        server->why[0] = '\0';
        server->lasting = false;
        atomic_fetch_sub(&trouble->active, 1);
    }
    pthread_mutex_unlock(&trouble->lock);
}

static void describe(const struct trouble_server *server, size_t others, char *out, size_t size)
{
    char address[ADDRESS_TEXT_MAX];
    address_print(server->endpoint.host, server->endpoint.port, address);
    if (others > 0)
        snprintf(out, size, "%s: %s (and %zu more servers)", address, server->why, others);
    else
        snprintf(out, size, "%s: %s", address, server->why);
}

bool trouble_describe(struct trouble *trouble, int64_t recent_ms, char *out, size_t size)
{
    const struct trouble_server *best = NULL;
    size_t others = 0;
    pthread_mutex_lock(&trouble->lock);
    int64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < TROUBLE_SERVERS; i++) {
        const struct trouble_server *server = &trouble->servers[i];
        if (!server->why[0] || now_ms - server->noted_ms > recent_ms)
            continue;
        others += best != NULL;
        if (!best || server->noted_ms > best->noted_ms)
            best = server;
    }
    if (best)
        describe(best, others, out, size);
    pthread_mutex_unlock(&trouble->lock);
    return best != NULL;
}
