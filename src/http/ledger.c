/* When a line is queued, waited for, or counted as lost. */
#include "ledger.h"

#include "alarms.h"
#include "answer.h"
#include "clock.h"
#include "metrics.h"
#include "worker.h"

enum { STATUS_CLIENT_CLOSED = 499 };

static size_t metrics_row(const struct request *request)
{
    return request->route == NULL ? route_count : (size_t)(request->route - routes);
}

static bool is_audited(const struct request *request)
{
    return request->worker->producer != NULL && (request->route == NULL || request->route->audited);
}

/* Completes what handlers did not fill in. */
static void complete_record(struct request *request, unsigned status)
{
    struct audit_record *record = &request->audit;
    const struct caller *caller = &request->caller;
    record->event = request->route == NULL ? AUDIT_REFUSED : request->route->event;
    record->path = request->route == NULL ? TEXT("-") : text_of(request->route->path);
    record->method = request->method;
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

static bool write_line(struct request *request, struct audit_ticket *ticket)
{
    return audit_write(request->worker->producer, format_line(request), ticket);
}

/* The last word on a request: counted, and free to leave. */
static void conclude(struct request *request, int64_t duration_ns)
{
    metrics_request(metrics_row(request), request->private->status, duration_ns);
    answer_release(request);
}

static void conclude_late(struct request *request)
{
    conclude(request, clock_monotonic_ns() - request->begun_ns);
}

static void refuse_unrecorded(struct request *request)
{
    answer_problem(request, ERR_AUDIT_UNAVAILABLE, (struct text){0}, (struct text){0});
}

static void on_ticket(struct audit_ticket *ticket, bool written)
{
    struct request_private *private =
        (struct request_private *)((char *)ticket - offsetof(struct request_private, ticket));
    if (!written)
        refuse_unrecorded(private->request);
    conclude_late(private->request);
}

/* Validations may wait a little for their place in a full queue. */
static void wait_for_queue(struct request *request)
{
    struct worker *worker = request->worker;
    enum { RETRY_MS = 5 };
    request->private->audit_deadline_ms = clock_monotonic_ms() + request->conf->audit_wait;
    request->private->next = worker->audit_waiting;
    worker->audit_waiting = request;
    if (!uv_is_active((const uv_handle_t *)&worker->audit_retry))
        uv_timer_start(&worker->audit_retry, worker->audit_retry.timer_cb, RETRY_MS, RETRY_MS);
}

void ledger_record(struct request *request)
{
    struct request_private *private = request->private;
    complete_record(request, private->status);
    if (!is_audited(request)) {
        conclude(request, request->audit.duration_ns);
        return;
    }
    alarms_look(request);
    /* What was refused before its operation began has changed nothing and needs no sync: strangers
     * cannot make the disk busy. */
    if (request->operation != NULL && audit_event_durable(request->audit.event)) {
        private->ticket.done = on_ticket;
        write_line(request, &private->ticket);
        return;
    }
    if (write_line(request, NULL)) {
        conclude(request, request->audit.duration_ns);
        return;
    }
    wait_for_queue(request);
}

static void give_up_waiting(struct request *request)
{
    audit_count_lost(request->worker->producer);
    if (request->conf->audit_overflow == AUDIT_REFUSE)
        refuse_unrecorded(request);
    conclude_late(request);
}

void ledger_retry(struct worker *worker)
{
    struct request *waiting = worker->audit_waiting;
    int64_t now_ms = clock_monotonic_ms();
    worker->audit_waiting = NULL;
    while (waiting != NULL) {
        struct request *request = waiting;
        waiting = request->private->next;
        if (write_line(request, NULL)) {
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

/* What to call an end that was not our answer: libmicrohttpd's own error, a deadline of ours, or
 * the client's leaving. */
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

void ledger_record_unanswered(struct request *request, unsigned status)
{
    struct text reason = name_end(request, &status);
    if (request->audit.reason.data == NULL)
        request->audit.reason = reason;
    request->audit.failed = true;
    if (request->wall_ms == 0)
        request->wall_ms = clock_wall_ms();
    complete_record(request, status);
    metrics_request(metrics_row(request), status, request->audit.duration_ns);
    if (is_audited(request) && !write_line(request, NULL))
        audit_count_lost(request->worker->producer);
}
