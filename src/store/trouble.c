/* A small table under a mutex that is only taken when something is wrong, or was. */
#include "trouble.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"

enum { TELL_INTERVAL_MS = 10000 };

void trouble_init(struct trouble *trouble)
{
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

/* The server's place, or the one that was told longest ago, made its own. */
static struct trouble_server *find_or_take(struct trouble *trouble, const struct endpoint *endpoint)
{
    struct trouble_server *found = find(trouble, endpoint);
    if (found)
        return found;
    found = &trouble->servers[0];
    for (size_t i = 1; i < TROUBLE_SERVERS; i++)
        if (trouble->servers[i].told_ms < found->told_ms)
            found = &trouble->servers[i];
    if (found->why[0])
        atomic_fetch_sub(&trouble->active, 1);
    *found = (struct trouble_server){.endpoint = *endpoint};
    return found;
}

/* True if it is to be told now. */
static bool note(struct trouble *trouble, const struct endpoint *endpoint, const char *why)
{
    struct trouble_server *server = find_or_take(trouble, endpoint);
    int64_t now_ms = clock_monotonic_ms();
    if (strcmp(server->why, why) == 0)
        return false;
    if (server->told_ms && now_ms - server->told_ms < TELL_INTERVAL_MS)
        return false;
    if (!server->why[0])
        atomic_fetch_add(&trouble->active, 1);
    snprintf(server->why, sizeof(server->why), "%s", why);
    server->told_ms = now_ms;
    return true;
}

void trouble_tell(struct trouble *trouble, const struct endpoint *endpoint, const char *why)
{
    pthread_mutex_lock(&trouble->lock);
    bool tell = note(trouble, endpoint, why);
    pthread_mutex_unlock(&trouble->lock);
    if (tell)
        log_error("store_connect_failed", "host=%s port=%u why=\"%s\"", endpoint->host,
                  endpoint->port, why);
}

void trouble_over(struct trouble *trouble, const struct endpoint *endpoint)
{
    if (atomic_load_explicit(&trouble->active, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&trouble->lock);
    struct trouble_server *server = find(trouble, endpoint);
    if (server && server->why[0]) {
        server->why[0] = '\0';
        atomic_fetch_sub(&trouble->active, 1);
    }
    pthread_mutex_unlock(&trouble->lock);
}
