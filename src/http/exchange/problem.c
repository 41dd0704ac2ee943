/* Bodies and headers of problems. */
#include "problem.h"

#include <assert.h>
#include <string.h>

#include "http/access/oauth_clients.h"
#include "http/access/throttle.h"
#include "http/server/worker.h"
#include "router.h"

#define PROBLEM_TYPE    "application/problem+json"
#define REALM_PARAMETER "realm=\"sessiond\""
#define REALM           "Bearer " REALM_PARAMETER

/* The value of WWW-Authenticate (RFC 6750, section 3); NULL for answers without it. */
static const char *challenge_of(enum err err)
{
    if (err == ERR_KEY_MISSING)
        return REALM;
    if (err == ERR_SCOPE_MISSING)
        return REALM ", error=\"insufficient_scope\"";
    if (err == ERR_STEP_UP_REQUIRED) /* RFC 9470, section 3 */
        return REALM ", error=\"insufficient_user_authentication\", "
                     "error_description=\"Step-up authentication is required\"";
    return err_status(err) == MHD_HTTP_UNAUTHORIZED ? REALM ", error=\"invalid_token\"" : NULL;
}

/* RFC 9470, section 3: what would do. Values of acr need no escapes (conf_is_acr()). */
static struct text ask_for_strength(struct request *request)
{
    const struct operation *operation = request->operation;
    const struct strength_demand *demanded = &operation->out.demanded;
    struct text challenge = TEXT(REALM ", error=\"insufficient_user_authentication\", "
                                       "error_description=\"Stronger or more recent "
                                       "authentication is required\"");
    if (demanded->max_age_s >= 0)
        challenge = arena_format(&request->arena, "%s, max_age=\"%lld\"", challenge.data,
                                 (long long)demanded->max_age_s);
    if (demanded->acr.data)
        challenge = arena_format(&request->arena, "%s, acr_values=\"%.*s\"", challenge.data,
                                 (int)demanded->acr.length, demanded->acr.data);
    return challenge;
}

/* --- errors of OAuth --- */

/* A caller who asks for problems by name gets them: their codes say more than the words of OAuth.
 */
static bool asks_for_problems(const struct request *request)
{
    const char *accept = request->connection == NULL
                             ? NULL
                             : MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                           MHD_HTTP_HEADER_ACCEPT);
    return accept != NULL && strcasestr(accept, PROBLEM_TYPE) != NULL;
}

/* Before it is routed a request has the format of its path. */
static bool is_of_oauth(const struct request *request)
{
    if (request->route != NULL)
        return request->route->errors == ERRORS_OAUTH && !asks_for_problems(request);
    return request->path.data != NULL &&
           router_errors(request->worker->plane, request->path) == ERRORS_OAUTH &&
           !asks_for_problems(request);
}

/* The word for an error (RFC 6749, section 5.2; temporarily_unavailable and server_error are of
 * section 4.1.2.1). */
static const char *oauth_word_of(enum err err)
{
    switch (err) {
    case ERR_KEY_MISSING:
    case ERR_KEY_INVALID:
        return "invalid_client";
    case ERR_SCOPE_MISSING:
    case ERR_TENANT_FORBIDDEN:
        return "unauthorized_client";
    case ERR_REFRESH_INVALID:
        return "invalid_grant";
    case ERR_GRANT_UNSUPPORTED:
    case ERR_TOKEN_UNSUPPORTED:
        return err_code(err);
    default:
        break;
    }
    unsigned status = err_status(err);
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE || status == MHD_HTTP_TOO_MANY_REQUESTS)
        return "temporarily_unavailable";
    return status == MHD_HTTP_INTERNAL_SERVER_ERROR ? "server_error" : "invalid_request";
}

/* A description has the printable ASCII without quotation marks and backslashes (section 5.2). */
static struct text describe(struct request *request, struct text sentence)
{
    struct text copy = arena_copy(&request->arena, sentence);
    char *at = (char *)copy.data;
    for (size_t i = 0; i < copy.length; i++)
        if (at[i] == '"')
            at[i] = '\'';
        else if (at[i] < ' ' || at[i] > '~' || at[i] == '\\')
            at[i] = '?';
    return copy;
}

static void write_oauth_error(struct request *request, enum err err, struct text detail)
{
    struct request_private *private = request->private;
    struct json_writer writer = {.out = &private->answer};
    /* A bad grant is 400, not 401 (RFC 6749, section 5.2). */
    if (err == ERR_REFRESH_INVALID)
        request->private->status = MHD_HTTP_BAD_REQUEST;
    private->content_type = "application/json";
    json_open_object(&writer);
    json_member_string(&writer, "error", text_of(oauth_word_of(err)));
    struct text sentence = detail.data == NULL ? text_of(err_title(err)) : detail;
    json_member_string(&writer, "error_description", describe(request, sentence));
    json_close_object(&writer);
    request_header(request, "Pragma", TEXT("no-cache"));
    if (private->status == MHD_HTTP_UNAUTHORIZED && !oauth_clients_by_bearer(request))
        request_header(request, "WWW-Authenticate", TEXT("Basic " REALM_PARAMETER));
    else if (challenge_of(err) != NULL && private->status != MHD_HTTP_BAD_REQUEST)
        request_header(request, "WWW-Authenticate", text_of(challenge_of(err)));
}

/* --- problems --- */

static void write_problem(struct request *request, enum err err, struct text detail,
                          struct text members)
{
    const char *challenge = challenge_of(err);
    struct buffer *out = &request->private->answer;
    struct json_writer writer = {.out = out};
    json_open_object(&writer);
    buffer_add_literal(out, "\"type\":\"/problems/");
    buffer_add_text(out, text_of(err_code(err)));
    buffer_add_char(out, '"');
    writer.comma = true;
    json_member_string(&writer, "title", text_of(err_title(err)));
    json_member_int(&writer, "status", err_status(err));
    json_member_string(&writer, "detail", detail.data == NULL ? text_of(err_title(err)) : detail);
    json_member_string(&writer, "code", text_of(err_code(err)));
    json_member_string(&writer, "request_id", request->id);
    json_raw(&writer, members);
    json_close_object(&writer);
    request->private->content_type = PROBLEM_TYPE;
    if (err == ERR_INSUFFICIENT_AUTHENTICATION)
        request_header(request, "WWW-Authenticate", ask_for_strength(request));
    else if (challenge != NULL)
        request_header(request, "WWW-Authenticate", text_of(challenge));
}

/* Retry-After; 0: none. */
static unsigned retry_after_s(const struct request *request, enum err err)
{
    const struct operation *operation = request->operation;
    if (err == ERR_RATE_LIMITED)
        return throttle_retry_after_s(request);
    if (operation != NULL && operation->out.err == err && operation->out.retry_after_s > 0)
        return (unsigned)operation->out.retry_after_s;
    return err_retry_after(err);
}

void problem_write(struct request *request, enum err err, struct text detail, struct text members)
{
    struct request_private *private = request->private;
    assert(err > ERR_OK && err < ERR_COUNT && request->id.data != NULL);
    assert(err != ERR_INSUFFICIENT_AUTHENTICATION || request->operation != NULL);
    if (private->answer.length > 0)
        crypto_wipe(private->answer.data, private->answer.length);
    private->answer.length = 0;
    private->extra_count = 0;
    private->status = err_status(err);
    private->no_store = true;
    if (is_of_oauth(request))
        write_oauth_error(request, err, detail);
    else
        write_problem(request, err, detail, members);
    unsigned seconds = retry_after_s(request, err);
    if (seconds > 0)
        request_header(request, "Retry-After", arena_format(&request->arena, "%u", seconds));
    if (err == ERR_METHOD_NOT_ALLOWED)
        request_header(request, "Allow", private->allowed);
    /* RFC 5789, section 2.2. */
    if (err == ERR_MEDIA_TYPE && text_equal(request->method, TEXT("PATCH")))
        request_header(request, "Accept-Patch", TEXT(MERGE_PATCH));
}
