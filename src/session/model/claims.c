/* Claims are written next to the session's own text: its strings are JSON already, so they are
 * copied with their escapes. */
#include "claims.h"

#include <string.h>

#include "json.h"
#include "session_json.h"

/* --- the session's text --- */

/* Takes the next string off an array of strings, without its quotes and with its escapes. */
static bool next_string(struct text *rest, struct text *ret)
{
    const char *end = rest->data + rest->length;
    const char *quote = rest->length > 0 ? memchr(rest->data, '"', rest->length) : NULL;
    if (!quote)
        return false;
    const char *at = quote + 1;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    if (at >= end)
        return false;
    *ret = (struct text){quote + 1, (size_t)(at - quote - 1)};
    *rest = (struct text){at + 1, (size_t)(end - at - 1)};
    return true;
}

/* --- writing --- */

static bool is_scope_token(struct text role)
{
    for (size_t i = 0; i < role.length; i++)
        if (role.data[i] <= ' ' || role.data[i] > '~' || role.data[i] == '"' ||
            role.data[i] == '\\')
            return false;
    return role.length > 0;
}

static void add_quoted(struct buffer *out, const char *name, struct text escaped)
{
    buffer_addf(out, ",\"%s\":\"", name);
    buffer_add_text(out, escaped);
    buffer_add_char(out, '"');
}

/* Nothing if no role is a scope token, as introspection has it. */
static void add_scope(struct buffer *out, struct text roles)
{
    struct text role;
    const char *before = ",\"scope\":\"";
    size_t length = out->length;
    while (next_string(&roles, &role)) {
        if (!is_scope_token(role))
            continue;
        buffer_add_text(out, text_of(before));
        buffer_add_text(out, role);
        before = " ";
    }
    if (out->length > length)
        buffer_add_char(out, '"');
}

static void add_subject(struct buffer *out, const struct audience *audience,
                        const struct names *names)
{
    buffer_add_literal(out, ",\"sub\":\"");
    if (strcmp(audience->tenant, "*") == 0) {
        buffer_add_text(out, names->tenant);
        buffer_add_char(out, '/');
    }
    buffer_add_text(out, names->user_id);
    buffer_add_char(out, '"');
}

static void add_strength(struct buffer *out, const struct claims *claims)
{
    if (claims->auth_s > 0) {
        buffer_add_literal(out, ",\"auth_time\":");
        buffer_add_int(out, claims->auth_s);
    }
    if (claims->acr.data)
        add_quoted(out, "acr", claims->acr);
    if (claims->amr.data) {
        buffer_add_literal(out, ",\"amr\":");
        buffer_add_text(out, claims->amr);
    }
}

bool claims_state(const struct claims *claims, struct buffer *out)
{
    struct names names;
    struct text roles = session_json_roles(claims->session_json);
    if (!session_json_find_names(claims->session_json, &names) || !roles.data)
        return false;
    struct json_writer writer = {.out = out};
    json_open_object(&writer);
    json_member_string(&writer, "iss", claims->issuer);
    json_member_string(&writer, "aud", text_of(claims->audience->name));
    add_subject(out, claims->audience, &names);
    add_quoted(out, "client_id", names.tenant);
    add_quoted(out, "tenant", names.tenant);
    add_quoted(out, "sid", claims->session_id);
    add_scope(out, roles);
    buffer_add_literal(out, ",\"roles\":");
    buffer_add_text(out, roles);
    add_strength(out, claims);
    return true;
}

void claims_date(struct buffer *out, int64_t signed_s, int64_t expires_s, struct text id)
{
    buffer_add_literal(out, ",\"iat\":");
    buffer_add_int(out, signed_s);
    buffer_add_literal(out, ",\"exp\":");
    buffer_add_int(out, expires_s);
    add_quoted(out, "jti", id);
    buffer_add_char(out, '}');
}

/* --- conditions --- */

bool claims_fit_tenant(const struct audience *audience, struct text session_json)
{
    struct names names;
    return session_json_find_names(session_json, &names) &&
           (strcmp(audience->tenant, "*") == 0 ||
            text_equal(text_of(audience->tenant), names.tenant));
}

/* Compares with escapes: the session's text was written by the same writer. */
static bool has_role(struct text roles, const char *wanted)
{
    SCOPED(buffer_free) struct buffer escaped = {0};
    struct text role;
    json_escape(&escaped, text_of(wanted));
    while (next_string(&roles, &role))
        if (text_equal(role, buffer_text(&escaped)))
            return true;
    return false;
}

bool claims_fit_roles(const struct audience *audience, struct text session_json)
{
    struct text roles = session_json_roles(session_json);
    for (size_t i = 0; i < audience->roles.count; i++)
        if (has_role(roles, audience->roles.items[i]))
            return true;
    return audience->roles.count == 0;
}
