/* The operations' calls, and the short pages that explain error codes. */

#include "handlers.h"

#include <stdio.h>

#include "metrics.h"
#include "request_private.h"
#include "worker.h"

enum {
    PROGRESS_MS = 5000, /* a worker that has not turned its loop for so long hangs */
    MOST_NODES = 64     /* of Redis, in the answer of /readyz */
};

static void begin_status(struct request *request, struct json_writer *writer, const char *status)
{
    writer->out = request_body(request);
    json_open_object(writer);
    json_member_string(writer, "status", text_of(status));
}

void handle_livez(struct request *request)
{
    bool alive = http_server_alive(request->worker->server, PROGRESS_MS);
    struct json_writer writer = {0};
    begin_status(request, &writer, alive ? "pass" : "fail");
    json_close_object(&writer);
    request_answer(request, alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, true);
}

static void write_nodes(struct json_writer *writer, const struct store *store)
{
    static const struct text breakers[] = {
        [BREAKER_CLOSED] = {"closed", 6},
        [BREAKER_OPEN] = {"open", 4},
        [BREAKER_HALF_OPEN] = {"half_open", 9},
    };
    struct store_node_health nodes[MOST_NODES];
    size_t count = store_nodes(store, nodes, MOST_NODES);
    json_name(writer, "nodes");
    json_open_array(writer);
    for (size_t i = 0; i < count; i++) {
        char name[sizeof(nodes[i].host) + 8];
        int length = snprintf(name, sizeof(name), "%s:%u", nodes[i].host, nodes[i].port);
        json_open_object(writer);
        json_member_string(writer, "node", (struct text){name, (size_t)length});
        json_member_string(writer, "breaker", breakers[nodes[i].breaker]);
        json_member_bool(writer, "watched", nodes[i].watched);
        json_close_object(writer);
    }
    json_close_array(writer);
}

static void write_store(struct json_writer *writer, const struct store *store,
                        const struct store_health *health)
{
    json_name(writer, "store");
    json_open_object(writer);
    json_member_int(writer, "masters", health->masters);
    json_member_int(writer, "slots_covered", health->slots_covered);
    json_member_int(writer, "map_age_ms", health->map_age_ms);
    write_nodes(writer, store);
    json_close_object(writer);
}

static void write_memory(struct json_writer *writer, const struct http_services *services)
{
    struct journal_usage journal;
    struct cache_usage cache;
    journal_usage(services->journal, &journal);
    cache_usage(services->cache, &cache);
    json_name(writer, "journal");
    json_open_object(writer);
    json_member_int(writer, "records", (int64_t)journal.records);
    json_member_int(writer, "unsettled", (int64_t)journal.unsettled);
    json_close_object(writer);
    json_name(writer, "cache");
    json_open_object(writer);
    json_member_int(writer, "entries", (int64_t)cache.entries);
    json_member_int(writer, "bytes", (int64_t)cache.bytes);
    json_close_object(writer);
}

static void write_alerts(struct json_writer *writer, const struct alerts_usage *alerts)
{
    json_name(writer, "alerts");
    json_open_object(writer);
    json_member_int(writer, "queued", alerts->queued);
    json_member_int(writer, "bytes", alerts->bytes);
    json_close_object(writer);
}

static struct text pass_or(bool good, struct text otherwise)
{
    return good ? TEXT("pass") : otherwise;
}

/* Ready in an outage too: pulling every node for it would turn a degraded service off. */
void handle_readyz(struct request *request)
{
    struct http_server *server = request->worker->server;
    struct store_health store;
    store_health(server->services.store, &store);
    bool stopping = atomic_load(&server->draining);
    bool progress = http_server_alive(server, PROGRESS_MS);
    bool audit = audit_healthy(server->services.audit);
    bool journal = journal_healthy(server->services.journal);
    struct alerts_usage alerts;
    alerts_usage(server->services.alerts, &alerts);
    bool fail = stopping || !progress;
    bool warn = !audit || !journal || !alerts.written || !alerts.delivered || !store.map_known ||
                !store.serving;

    struct json_writer writer = {0};
    begin_status(request, &writer, fail ? "fail" : warn ? "warn" : "pass");
    json_name(&writer, "checks");
    json_open_object(&writer);
    json_member_string(&writer, "stopping", pass_or(!stopping, TEXT("fail")));
    json_member_string(&writer, "workers", pass_or(progress, TEXT("fail")));
    json_member_string(&writer, "audit", pass_or(audit, TEXT("warn")));
    json_member_string(&writer, "journal", pass_or(journal, TEXT("warn")));
    json_member_string(&writer, "alerts",
                       pass_or(alerts.written && alerts.delivered, TEXT("warn")));
    json_member_string(&writer, "store", pass_or(store.serving, TEXT("warn")));
    json_member_string(&writer, "slot_map", pass_or(store.map_known, TEXT("warn")));
    json_close_object(&writer);
    write_store(&writer, server->services.store, &store);
    write_memory(&writer, &server->services);
    write_alerts(&writer, &alerts);
    json_close_object(&writer);
    request_answer(request, fail ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, true);
}

void handle_metrics(struct request *request)
{
    metrics_print(request_body(request));
    request_answer_as(request, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
}

void handle_version(struct request *request)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "name", TEXT("sessiond"));
    json_member_string(&writer, "version", text_of(SESSIOND_VERSION));
    json_member_string(&writer, "revision", text_of(SESSIOND_REVISION));
    json_member_string(&writer, "node", text_of(request->worker->server->services.node_name));
    json_close_object(&writer);
    request_answer(request, MHD_HTTP_OK, false);
}

/* The `type` of every problem leads here. */
void handle_problem(struct request *request)
{
    for (unsigned i = ERR_OK + 1; i < ERR_COUNT; i++) {
        const char *code = err_code(i);
        if (!text_equal(text_of(code), request->parameters[0]))
            continue;
        struct buffer *page = request_body(request);
        buffer_addf(page,
                    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                    "<title>%s</title></head>\n<body><h1>%s</h1>\n"
                    "<p>%s.</p>\n<p>HTTP status %u",
                    code, code, err_title(i), err_status(i));
        if (err_retry_after(i) > 0)
            buffer_addf(page, "; try again after %u s", err_retry_after(i));
        buffer_add_literal(page, ".</p></body></html>\n");
        request_answer_as(request, MHD_HTTP_OK, "text/html; charset=utf-8");
        return;
    }
    request_fail(request, ERR_NOT_FOUND, TEXT("There is no such error code"), (struct text){0});
}
