/* Forms, clients and answers, as all handlers of OAuth need them. */
#include "oauth.h"

#include <string.h>

#include "http/access/oauth_clients.h"
#include "http/access/throttle.h"
#include "http/api/request_fields.h"
#include "http/exchange/response.h"

enum handled oauth_read_form(struct request *request, const struct form_field *fields, size_t count,
                             void *target)
{
    struct text detail = {0};
    if (request->body.length > 0 && api_check_type(request, "application/x-www-form-urlencoded"))
        return ANSWERED;
    if (!form_read(request->body, fields, count, target, &request->arena, &detail))
        return response_fail(request, ERR_BODY_INVALID, detail);
    return GO_ON;
}

/* The dispatcher has admitted a client that Authorization named. */
enum handled oauth_check_client(struct request *request, const struct oauth_client *client)
{
    struct text detail = {0};
    bool known = request->caller.kind == CALLER_SERVICE;
    enum err err =
        oauth_clients_present(request, client->client_id, client->client_secret, &detail);
    if (err == ERR_OK && !known)
        err = throttle_admit_caller(request, &detail);
    return err == ERR_OK ? GO_ON : response_fail(request, err, detail);
}

enum handled oauth_demand(struct request *request, const char *name, struct text value)
{
    if (value.data)
        return GO_ON;
    return response_fail(request, ERR_BODY_INVALID,
                         arena_format(&request->arena, "\"%s\" is missing in the form", name));
}

enum handled oauth_answer(struct request *request)
{
    request_header(request, "Pragma", TEXT("no-cache"));
    return response_answer(request, MHD_HTTP_OK, true);
}

/* A scope-token (RFC 6749, section 3.3) is printable ASCII without blank, quotation mark and
 * backslash. So it has no escapes in JSON, and a role with escapes is none. */
static bool is_scope_token(struct text role)
{
    for (size_t i = 0; i < role.length; i++)
        if (role.data[i] <= ' ' || role.data[i] > '~' || role.data[i] == '\\')
            return false;
    return role.length > 0;
}

/* The string that the array continues with, without its quotes; false at its end. */
static bool next_role(struct text *rest, struct text *ret)
{
    const char *quote = rest->length > 0 ? memchr(rest->data, '"', rest->length) : NULL;
    if (!quote)
        return false;
    const char *end = rest->data + rest->length, *at = quote + 1;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    if (at >= end)
        return false;
    *ret = (struct text){quote + 1, (size_t)(at - quote - 1)};
    *rest = (struct text){at + 1, (size_t)(end - at - 1)};
    return true;
}

void oauth_write_scope(struct json_writer *writer, struct text roles)
{
    SCOPED(buffer_free) struct buffer scope = {0};
    struct text role;
    while (next_role(&roles, &role)) {
        if (!is_scope_token(role))
            continue;
        if (scope.length > 0)
            buffer_add_char(&scope, ' ');
        buffer_add_text(&scope, role);
    }
    if (scope.length > 0)
        json_member_string(writer, "scope", buffer_text(&scope));
}
