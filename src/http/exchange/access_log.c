/* Queues lines, waits for them, or counts them as lost. */
#include "access_log.h"

#include <assert.h>

#include "clean.h"
#include "clock.h"
#include "container_of.h"
#include "delivery.h"
#include "http/access/alert_triggers.h"
#include "http/access/callers.h"
#include "http/server/worker.h"
#include "metrics.h"
#include "problem.h"

enum { STATUS_CLIENT_CLOSED = 499 };

static size_t metrics_row(const struct request *request)
{
    return request->route == NULL ? route_count : (size_t)(request->route - routes);
}

static bool is_audited(const struct request *request)
{
    return request->worker->lane != NULL;
}

/* Completes the fields that handlers did not fill in. The method may be any HTTP token. */
static void complete_record(struct request *request, unsigned status)
{
    struct audit_record *record = &request->audit;
    assert(status >= 100 && status < 600);
    const struct caller *caller = &request->caller;
    record->event = request->route == NULL ? AUDIT_REFUSED : request->route->event;
    record->path = request->route == NULL ? TEXT("-") : text_of(request->route->path);
    record->method = clean_text(request->method, METHOD_MAX, &request->arena);
    record->wall_ms = request->wall_ms;
    record->duration_ns = clock_monotonic_ns() - request->begun_ns;
    record->status = status;
    record->failed = record->failed || status >= 400;
    record->request_id = request->id;
    if (caller->key != NULL) {
        record->service_key = text_of(caller->key->name);
        if (record->tenant.data == NULL && caller->key->tenant[0] != '*')
            record->tenant = text_of(caller->key->tenant);
    }
    record->operator_name = caller->operator_name;
    record->peer_ip = caller->peer.data != NULL ? caller->peer : request->private->client->peer;
    if (record->source_ip.data == NULL)
        record->source_ip = caller->address.data != NULL ? caller->address : record->peer_ip;
    if (record->user_agent.data == NULL)
        record->user_agent = caller->user_agent;
}

static struct text format_line(struct request *request)
{
    struct buffer *line = &request->worker->line;
    line->length = 0;
    audit_format(line, &request->audit);
    return buffer_text(line);
}

static bool write_line(struct request *request, enum audit_class class,
                       struct commit_ticket *ticket)
{
    return audit_write(request->worker->lane, class, format_line(request), ticket);
}

/* Neither waits for room nor is refused for the lack of it: a call without a line is counted. */
static void record_unauthenticated(struct request *request)
{
    struct audit_lane *lane = request->worker->lane;
    struct ip_address address;
    bool known = ip_parse(request->audit.source_ip, &address);
    if (!audit_admits_unauthenticated(lane, known ? &address : NULL) ||
        !write_line(request, AUDIT_CLASS_UNAUTHENTICATED, NULL))
        audit_count_unauthenticated(lane, request->audit.wall_ms);
}

/* A call that was refused before its operation began, or for a forged token, has changed nothing
 * and needs no sync: unauthenticated callers cannot load the disk. */
static bool is_durable(const struct request *request)
{
    const struct operation *operation = request->operation;
    return operation != NULL && !operation->out.forged && audit_event_durable(request->audit.event);
}

/* The end of an answered request: it is counted, and its answer released. */
static void conclude_request(struct request *request, int64_t duration_ns)
{
    metrics_request(metrics_row(request), request->private->status, duration_ns);
    delivery_release(request);
}

static void conclude_late(struct request *request)
{
    conclude_request(request, clock_monotonic_ns() - request->begun_ns);
}

static void refuse_unrecorded(struct request *request)
{
    assert(request_is_answered(request));
    problem_write(request, ERR_AUDIT_UNAVAILABLE, (struct text){0}, (struct text){0});
}

static void on_ticket(struct commit_ticket *ticket, bool written)
{
    struct request_private *private = container_of(ticket, struct request_private, ticket);
    if (!written)
        refuse_unrecorded(private->request);
    conclude_late(private->request);
}

/* Validations may wait a little for room in a full queue. */
static void wait_for_queue(struct request *request)
{
    struct worker *worker = request->worker;
    enum { RETRY_MS = 5 };
    assert(request_is_answered(request) && !is_durable(request));
    request->private->audit_deadline_ms = clock_monotonic_ms() + request->conf->audit_wait;
    request->private->next = worker->audit_waiting;
    worker->audit_waiting = request;
    if (!uv_is_active((const uv_handle_t *)&worker->audit_retry))
        uv_timer_start(&worker->audit_retry, worker->audit_retry.timer_cb, RETRY_MS, RETRY_MS);
}

void access_log_record(struct request *request)
{
    struct request_private *private = request->private;
    complete_record(request, private->status);
    if (!is_audited(request)) {
        conclude_request(request, request->audit.duration_ns);
        return;
    }
    alert_triggers_look(request);
    if (!callers_are_genuine(request)) {
        record_unauthenticated(request);
        conclude_request(request, request->audit.duration_ns);
        return;
    }
    if (is_durable(request)) {
        private->ticket.done = on_ticket;
        write_line(request, AUDIT_CLASS_CHANGES, &private->ticket);
        return;
    }
    if (write_line(request, AUDIT_CLASS_READS, NULL)) {
        conclude_request(request, request->audit.duration_ns);
        return;
    }
    wait_for_queue(request);
}

static void give_up_waiting(struct request *request)
{
    audit_count_lost(request->worker->lane);
    if (request->conf->audit_overflow == AUDIT_REFUSE)
        refuse_unrecorded(request);
    conclude_late(request);
}

void access_log_retry(struct worker *worker)
{
    struct request *waiting = worker->audit_waiting;
    int64_t now_ms = clock_monotonic_ms();
    worker->audit_waiting = NULL;
    while (waiting != NULL) {
        struct request *request = waiting;
        waiting = request->private->next;
        if (write_line(request, AUDIT_CLASS_READS, NULL)) {
            conclude_late(request);
        } else if (now_ms >= request->private->audit_deadline_ms) {
            give_up_waiting(request);
        } else {
            request->private->next = worker->audit_waiting;
            worker->audit_waiting = request;
        }
    }
    if (worker->audit_waiting == NULL)
        uv_timer_stop(&worker->audit_retry);
}

/* Names an end without an answer of ours: libmicrohttpd's own error, a deadline of ours, or the
 * client's leaving. */
static struct text name_end(const struct request *request, unsigned *status)
{
    static const struct {
        unsigned status;
        enum err err;
    } known[] = {
        {MHD_HTTP_BAD_REQUEST, ERR_BAD_REQUEST},
        {MHD_HTTP_CONTENT_TOO_LARGE, ERR_TOO_LARGE},
        {MHD_HTTP_URI_TOO_LONG, ERR_URI_TOO_LONG},
        {MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, ERR_HEADERS_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].status == *status) {
            metrics_add(METRIC_REQUESTS_MALFORMED, 1);
            return text_of(err_code(known[i].err));
        }
    }
    if (request->private->client->cut) {
        *status = err_status(ERR_TIMEOUT);
        return text_of(err_code(ERR_TIMEOUT));
    }
    *status = *status == 0 ? STATUS_CLIENT_CLOSED : *status;
    return TEXT("client_closed");
}

void access_log_record_unanswered(struct request *request, unsigned status)
{
    assert(!request_is_answered(request) && request->private->awaited == 0);
    struct text reason = name_end(request, &status);
    if (request->audit.reason.data == NULL)
        request->audit.reason = reason;
    request->audit.failed = true;
    if (request->wall_ms == 0)
        request->wall_ms = clock_wall_ms();
    complete_record(request, status);
    metrics_request(metrics_row(request), status, request->audit.duration_ns);
    if (!is_audited(request))
        return;
    if (!callers_are_genuine(request))
        record_unauthenticated(request);
    else if (!write_line(request, AUDIT_CLASS_READS, NULL))
        audit_count_lost(request->worker->lane);
}
