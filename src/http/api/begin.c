/* From a request to an operation, and from its outcome to the audit record. */
#include "begin.h"

#include <assert.h>

#include "clock.h"
#include "http/exchange/request_private.h"
#include "http/exchange/response.h"
#include "log.h"
#include "response_objects.h"

/* The actor, for tombstones and the audit line. */
static struct text actor_of(const struct caller *caller)
{
    if (caller->operator_name.data != NULL)
        return caller->operator_name;
    return caller->key != NULL ? text_of(caller->key->name) : TEXT("self");
}

/* A user's address is the connection's, and a fingerprint that he does not show he does not have. A
 * service may name the user's device in a header; the rest comes in its body. */
static struct client_claims claims_of(const struct request *request)
{
    struct client_claims claims = {
        .fingerprint = request->private->headers.values[HEADER_FINGERPRINT],
    };
    if (request->caller.kind == CALLER_SERVICE)
        return claims;
    claims.ip = request->caller.address;
    if (!claims.fingerprint.data)
        claims.fingerprint = TEXT("");
    return claims;
}

static enum permission permission_of(const struct request *request)
{
    if (request->caller.kind == CALLER_USER)
        return request->route->user_needs;
    return request_caller_is_bound(&request->caller) ? request->route->own_key_needs
                                                     : PERMISSION_NONE;
}

/* Copies an operation's facts into the audit record. */
static void note_outcome(struct request *request, const struct operation *operation)
{
    struct audit_record *record = &request->audit;
    record->tenant = operation->facts.tenant;
    record->user_id = operation->facts.user_id;
    record->session_id = operation->facts.session_id;
    record->device_id = operation->facts.device_id;
    record->device_type = operation->facts.device_type;
    record->ended = operation->out.ended;
    record->ended_count = operation->out.ended_count;
    record->durability = operation_durability_name(operation->out.durability);
    record->binding = operation->facts.binding;
    record->repeated = operation->out.repeated;
    if (operation->out.ended_count > 0)
        record->actor = operation->actor;
    if (operation->out.reason.data != NULL)
        record->reason = operation->out.reason;
}

/* A call that had to be answered in time may still leave its operation to end by itself. */
static void note_late(const struct request *request, const struct operation *operation)
{
    if (operation->answer_by_ms == 0)
        log_warning("request_late", "request_id=%.*s route=\"%s %s\" outcome=%s",
                    (int)request->id.length, request->id.data, request->route->method,
                    request->route->path, operation->out.err ? err_code(operation->out.err) : "ok");
}

static void finish_request(struct request *request, struct operation *operation)
{
    const struct request_private *private = request->private;
    note_outcome(request, operation);
    finish_fn *finish = operation->out.err == ERR_OK ? private->finish : private->fail;
    enum handled handled = finish(request, operation);
    assert(handled == ANSWERED);
}

static void operation_is_overdue(struct operation *operation, enum err err)
{
    struct request *request = operation->owner;
    if (request_is_answered(request))
        return;
    note_outcome(request, operation);
    enum handled handled = err == ERR_OK ? request->private->finish(request, operation)
                                         : response_fail(request, err, (struct text){0});
    assert(handled == ANSWERED);
}

static void operation_is_done(struct operation *operation)
{
    struct request *request = operation->owner;
    assert(request->operation == operation && request->private->awaited > 0);
    if (request_is_answered(request))
        note_late(request, operation);
    else
        finish_request(request, operation);
    request_awaited(request);
}

void api_begin_any(struct request *request, struct operation *operation, finish_fn *finish)
{
    assert(request->operation == NULL && !request_is_answered(request));
    request_await(request);
    request->private->finish = request->private->fail = finish;
    operation->context = &request->private->config->context;
    operation->arena = &request->arena;
    operation->conf = request->conf;
    /* A body may take long to arrive: tokens are judged by the time after it, not by that of the
     * headers. */
    operation->now_ms = clock_common_ms();
    operation->deadline_ms = request->deadline_ms;
    operation->done = operation_is_done;
    operation->overdue = operation_is_overdue;
    operation->owner = request;
    operation->actor = actor_of(&request->caller);
    operation->permission = permission_of(request);
    operation->claims = claims_of(request);
    request->operation = operation;
}

void api_begin(struct request *request, struct operation *operation, finish_fn *finish)
{
    api_begin_any(request, operation, finish);
    request->private->fail = api_fail_operation;
}
