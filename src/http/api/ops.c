/* The operations' calls, and the short pages that explain error codes. */

#include "handlers.h"

#include "http/exchange/request_private.h"
#include "http/exchange/response.h"
#include "http/server/worker.h"
#include "metrics.h"
#include "readiness.h"

enum { MOST_NODES = 64 /* of Redis, in the answer of /readyz */ };

static const char *const state_words[] = {
    [READY_PASS] = "pass",
    [READY_WARN] = "warn",
    [READY_FAIL] = "fail",
};

static void begin_status(struct request *request, struct json_writer *writer, const char *status)
{
    writer->out = request_body(request);
    json_open_object(writer);
    json_member_string(writer, "status", text_of(status));
}

enum handled api_livez(struct request *request)
{
    bool alive = http_server_alive(request->worker->server, WORKER_PROGRESS_MS);
    struct json_writer writer = {0};
    begin_status(request, &writer, alive ? "pass" : "fail");
    json_close_object(&writer);
    return response_answer(request, alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, true);
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
    json_member_array(writer, "nodes");
    for (size_t i = 0; i < count; i++) {
        char name[ADDRESS_TEXT_MAX];
        json_open_object(writer);
        json_member_string(writer, "node", address_print(nodes[i].host, nodes[i].port, name));
        json_member_string(writer, "breaker", breakers[nodes[i].breaker]);
        json_member_bool(writer, "watched", nodes[i].tracked);
        json_close_object(writer);
    }
    json_close_array(writer);
}

static void write_store(struct json_writer *writer, const struct store *store,
                        const struct store_health *health)
{
    json_member_object(writer, "store");
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
    json_member_object(writer, "journal");
    json_member_int(writer, "records", (int64_t)journal.records);
    json_member_int(writer, "unsettled", (int64_t)journal.unconfirmed);
    json_close_object(writer);
    json_member_object(writer, "cache");
    json_member_int(writer, "entries", (int64_t)cache.entries);
    json_member_int(writer, "bytes", (int64_t)cache.bytes);
    json_close_object(writer);
}

static void write_alerts(struct json_writer *writer, const struct alerts_usage *alerts)
{
    json_member_object(writer, "alerts");
    json_member_int(writer, "queued", alerts->queued);
    json_member_int(writer, "bytes", alerts->bytes);
    json_close_object(writer);
}

static void write_checks(struct json_writer *writer, const struct ready_check *checks, size_t count)
{
    json_member_object(writer, "checks");
    for (size_t i = 0; i < count; i++)
        json_member_string(writer, checks[i].name, text_of(state_words[checks[i].state]));
    json_close_object(writer);
    json_member_object(writer, "why");
    for (size_t i = 0; i < count; i++)
        if (checks[i].state != READY_PASS)
            json_member_string(writer, checks[i].name, text_of(checks[i].why));
    json_close_object(writer);
}

enum handled api_readyz(struct request *request)
{
    struct http_server *server = request->worker->server;
    struct ready_check checks[READY_CHECKS_MAX];
    size_t count = readiness_look(server, checks);
    enum ready_state worst = READY_PASS;
    for (size_t i = 0; i < count; i++)
        if (checks[i].state > worst)
            worst = checks[i].state;
    struct store_health store;
    store_health(server->services.store, &store);
    struct alerts_usage alerts;
    alerts_usage(server->services.alerts, &alerts);

    struct json_writer writer = {0};
    begin_status(request, &writer, state_words[worst]);
    write_checks(&writer, checks, count);
    write_store(&writer, server->services.store, &store);
    write_memory(&writer, &server->services);
    write_alerts(&writer, &alerts);
    json_close_object(&writer);
    return response_answer(request,
                           worst == READY_FAIL ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, true);
}

enum handled api_metrics(struct request *request)
{
    metrics_print(request_body(request));
    return response_answer_as(request, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8");
}

enum handled api_version(struct request *request)
{
    struct json_writer writer = {.out = request_body(request)};
    json_open_object(&writer);
    json_member_string(&writer, "name", TEXT("sessiond"));
    json_member_string(&writer, "version", text_of(SESSIOND_VERSION));
    json_member_string(&writer, "revision", text_of(SESSIOND_REVISION));
    json_member_string(&writer, "node", text_of(request->worker->server->services.node_name));
    json_close_object(&writer);
    return response_answer(request, MHD_HTTP_OK, false);
}

/* The `type` of every problem links to this page. */
enum handled api_problem(struct request *request)
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
        return response_answer_as(request, MHD_HTTP_OK, "text/html; charset=utf-8");
    }
    return response_fail(request, ERR_NOT_FOUND, TEXT("There is no such error code"));
}
