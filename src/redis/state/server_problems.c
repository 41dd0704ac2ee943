/* A small table under a mutex, which is taken only while something is wrong, or was. */
#include "server_problems.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"

void server_problems_init(struct server_problems *problems, enum problem_kind kind)
{
    problems->kind = kind;
    pthread_mutex_init(&problems->lock, NULL);
    atomic_init(&problems->active, 0);
}

void server_problems_free(struct server_problems *problems)
{
    pthread_mutex_destroy(&problems->lock);
}

static struct problem_server *find_problem(struct server_problems *problems,
                                           const struct endpoint *endpoint)
{
    for (size_t i = 0; i < PROBLEM_SERVERS; i++)
        if (endpoint_equal(&problems->servers[i].endpoint, endpoint))
            return &problems->servers[i];
    return NULL;
}

/* The server's position, or the one noted longest ago, which it takes over with the time of its
 * last line: more servers than positions get no more lines. */
static struct problem_server *find_or_take(struct server_problems *problems,
                                           const struct endpoint *endpoint)
{
    struct problem_server *found = find_problem(problems, endpoint);
    if (found)
        return found;
    found = &problems->servers[0];
    for (size_t i = 1; i < PROBLEM_SERVERS; i++)
        if (problems->servers[i].noted_ms < found->noted_ms)
            found = &problems->servers[i];
    if (found->why[0])
        atomic_fetch_sub(&problems->active, 1);
    *found = (struct problem_server){.endpoint = *endpoint, .logged_ms = found->logged_ms};
    return found;
}

static void set_reason(struct server_problems *problems, struct problem_server *server,
                       const char *why, bool lasting)
{
    if (!server->why[0])
        atomic_fetch_add(&problems->active, 1);
    snprintf(server->why, sizeof(server->why), "%s", why);
    server->lasting = lasting;
    server->unlogged = false;
    server->noted_ms = clock_monotonic_ms();
}

void server_problems_note(struct server_problems *problems, const struct endpoint *endpoint,
                          const char *why)
{
    pthread_mutex_lock(&problems->lock);
    struct problem_server *server = find_or_take(problems, endpoint);
    bool recent = clock_monotonic_ms() - server->noted_ms < LOG_INTERVAL_MS;
    if (!server->lasting || !recent)
        set_reason(problems, server, why, false);
    pthread_mutex_unlock(&problems->lock);
}

/* True if it is to be logged now. */
static bool note_lasting(struct server_problems *problems, const struct endpoint *endpoint,
                         const char *why)
{
    struct problem_server *server = find_or_take(problems, endpoint);
    int64_t now_ms = clock_monotonic_ms();
    bool recent = server->logged_ms && now_ms - server->logged_ms < LOG_INTERVAL_MS;
    if (server->lasting && strcmp(server->why, why) == 0) {
        server->noted_ms = now_ms;
    } else if (!recent || !server->why[0]) {
        set_reason(problems, server, why, true);
        server->unlogged = true;
    }
    if (!server->unlogged || recent)
        return false;
    server->unlogged = false;
    server->logged_ms = now_ms;
    return true;
}

static void log_trouble(enum problem_kind kind, const struct endpoint *endpoint, const char *why)
{
    switch (kind) {
    case PROBLEM_CONNECT:
        log_error("store_connect_failed", "host=%s port=%u why=\"%s\"", endpoint->host,
                  endpoint->port, why);
        break;
    case PROBLEM_ERROR:
        log_error("store_error", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port, why);
        break;
    case PROBLEM_UNFIT:
        log_warning("store_unfit", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port,
                    why);
        break;
    case PROBLEM_FOREIGN:
        log_error("store_foreign", "host=%s port=%u why=\"%s\"", endpoint->host, endpoint->port,
                  why);
        break;
    }
}

void server_problems_log(struct server_problems *problems, const struct endpoint *endpoint,
                         const char *why)
{
    pthread_mutex_lock(&problems->lock);
    bool tell = note_lasting(problems, endpoint, why);
    pthread_mutex_unlock(&problems->lock);
    if (tell)
        log_trouble(problems->kind, endpoint, why);
}

void server_problems_over(struct server_problems *problems, const struct endpoint *endpoint)
{
    if (atomic_load_explicit(&problems->active, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&problems->lock);
    struct problem_server *server = find_problem(problems, endpoint);
    if (server && server->why[0]) {
        server->why[0] = '\0';
        server->lasting = false;
        atomic_fetch_sub(&problems->active, 1);
    }
    pthread_mutex_unlock(&problems->lock);
}

static void describe_problem(const struct problem_server *server, size_t others, char *out,
                             size_t size)
{
    char address[ADDRESS_TEXT_MAX];
    address_print(server->endpoint.host, server->endpoint.port, address);
    if (others > 0)
        snprintf(out, size, "%s: %s (and %zu more servers)", address, server->why, others);
    else
        snprintf(out, size, "%s: %s", address, server->why);
}

bool server_problems_describe(struct server_problems *problems, int64_t recent_ms, char *out,
                              size_t size)
{
    const struct problem_server *best = NULL;
    size_t others = 0;
    pthread_mutex_lock(&problems->lock);
    int64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; i < PROBLEM_SERVERS; i++) {
        const struct problem_server *server = &problems->servers[i];
        if (!server->why[0] || now_ms - server->noted_ms > recent_ms)
            continue;
        others += best != NULL;
        if (!best || server->noted_ms > best->noted_ms)
            best = server;
    }
    if (best)
        describe_problem(best, others, out, size);
    pthread_mutex_unlock(&problems->lock);
    return best != NULL;
}
