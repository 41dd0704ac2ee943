/* The checks, a function and a row each. A check that does not pass gives the reason. */
#include "readiness.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "clock.h"
#include "http/server/https.h"
#include "http/server/worker.h"
#include "ids.h"

__attribute__((format(printf, 3, 4))) static void
report(struct ready_check *check, enum ready_state state, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->why, sizeof(check->why), format, arguments);
    va_end(arguments);
    check->state = state;
}

static void check_stopping(const struct http_server *server, struct ready_check *check)
{
    if (atomic_load(&server->draining))
        report(check, READY_FAIL, "draining: the service was told to stop");
}

static void check_workers(const struct http_server *server, struct ready_check *check)
{
    if (!http_server_alive(server, WORKER_PROGRESS_MS))
        report(check, READY_FAIL, "a worker has not turned its loop for %d s",
               WORKER_PROGRESS_MS / 1000);
}

/* In an outage that began later the node stays ready: its cache still serves, and taking all nodes
 * out of service would turn a degraded service off. */
static void check_slot_map(const struct http_server *server, struct ready_check *check)
{
    struct store_health store;
    store_health(server->services.store, &store);
    const char *problems = store.error[0]      ? store.error
                           : store.problems[0] ? store.problems
                                               : "no server has answered yet";
    if (!store.was_whole && store.slots_covered > 0 && store.slots_covered < SLOT_COUNT)
        report(check, READY_FAIL, "never had a whole slot map: %u of %d slots have no master; %s",
               SLOT_COUNT - store.slots_covered, SLOT_COUNT, problems);
    else if (!store.was_whole)
        report(check, READY_FAIL, "Redis was not reached since the start; %s", problems);
    else if (store.slots_covered < SLOT_COUNT)
        report(check, READY_WARN, "%u of %d slots have no master", SLOT_COUNT - store.slots_covered,
               SLOT_COUNT);
}

static void check_store(const struct http_server *server, struct ready_check *check)
{
    struct store_health store;
    store_health(server->services.store, &store);
    const char *reason = store.foreign[0] ? store.foreign
                         : store.error[0] ? store.error
                                          : store.problems;
    if (!store.serving)
        report(check, READY_WARN, "no call gets through to Redis%s%s", reason[0] ? "; " : "",
               reason);
    else if (store.foreign[0])
        report(check, READY_WARN, "a server belongs to another Redis; %s", store.foreign);
    else if (store.error[0])
        report(check, READY_WARN, "Redis refuses calls; %s", store.error);
}

static void check_servers(const struct http_server *server, struct ready_check *check)
{
    struct store_health store;
    store_health(server->services.store, &store);
    if (store.fault[0])
        report(check, READY_WARN, "%s", store.fault);
}

static void check_clock(const struct http_server *server, struct ready_check *check)
{
    struct store_health store;
    store_health(server->services.store, &store);
    int64_t skew_ms = clock_skew_ms();
    if (store.was_whole && !store.time_asked)
        report(check, READY_FAIL,
               "the time of Redis is not known yet: this host's clock may be wrong");
    else if (clock_trust() == CLOCK_DISPUTED)
        report(check, READY_WARN,
               "no majority of this host's clock and those of Redis agrees within %d ms; set them, "
               "with NTP",
               CLOCKS_APART_MS);
    else if (skew_ms > CLOCKS_APART_MS || skew_ms < -CLOCKS_APART_MS)
        report(check, READY_WARN, "this host's clock is %lld ms %s that of the servers of Redis",
               (long long)(skew_ms < 0 ? -skew_ms : skew_ms), skew_ms > 0 ? "ahead of" : "behind");
}

static void check_audit(const struct http_server *server, struct ready_check *check)
{
    if (!audit_healthy(server->services.audit))
        report(
            check, READY_WARN,
            "the audit file cannot be written, or its disk is stuck; see audit_failed in the log");
}

static void check_journal(const struct http_server *server, struct ready_check *check)
{
    if (!journal_healthy(server->services.journal))
        report(check, READY_WARN, "the journal cannot be written; see journal_failed in the log");
}

static void check_tls(const struct http_server *server, struct ready_check *check)
{
    (void)server;
    SCOPED(https_unref) struct https *https = https_current();
    int64_t left_s = https_expires_in(https, clock_wall_ms() / 1000);
    if (left_s < 0)
        report(check, READY_WARN, "the certificate of server.tls_certificate_file has expired");
    else if (left_s < (int64_t)HTTPS_WARN_DAYS * DAY_S)
        report(check, READY_WARN, "server.tls_certificate_file expires in %lld hours",
               (long long)(left_s / 3600));
}

static void check_alert_queue(const struct http_server *server, struct ready_check *check)
{
    struct alerts_usage alerts;
    alerts_usage(server->services.alerts, &alerts);
    if (!alerts.written)
        report(check, READY_WARN, "the queue of alerts cannot be written; see the log");
    else if (!alerts.delivered)
        report(check, READY_WARN, "the latest post to alerts.webhook_url failed; %lld alerts wait",
               (long long)alerts.queued);
}

static void check_keys(const struct http_server *server, struct ready_check *check)
{
    uint64_t ids;
    char names[SESSION_KEYS_NAMES];
    enum session_keys state = session_keys(server->services.sessions, &ids);
    session_keys_name(ids, names, sizeof(names));
    if (state == SESSION_KEYS_UNASKED)
        report(check, READY_FAIL, "the keys were not yet compared with those of the other nodes");
    else if (state == SESSION_KEYS_FOREIGN)
        report(check, READY_FAIL, "another key file than that of the other nodes on this Redis: %s",
               names);
    else if (state == SESSION_KEYS_MISSING)
        report(check, READY_WARN, "other nodes have keys that are missing here: %s", names);
}

static const struct {
    const char *name;
    void (*look)(const struct http_server *server, struct ready_check *check);
} rows[] = {
    {"stopping", check_stopping},
    {"workers", check_workers},
    {"audit", check_audit},
    {"journal", check_journal},
    {"alerts", check_alert_queue},
    {"store", check_store},
    {"servers", check_servers},
    {"slot_map", check_slot_map},
    {"keys", check_keys},
    {"clock", check_clock},
    {"tls", check_tls},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
_Static_assert(sizeof(rows) / sizeof(rows[0]) <= READY_CHECKS_MAX, "callers have room for all");

size_t readiness_look(const struct http_server *server, struct ready_check ret[READY_CHECKS_MAX])
{
    for (size_t i = 0; i < ROWS; i++) {
        ret[i] = (struct ready_check){.name = rows[i].name, .state = READY_PASS};
        rows[i].look(server, &ret[i]);
        assert((ret[i].state == READY_PASS) == (ret[i].why[0] == '\0'));
    }
    return ROWS;
}
