/* Reads the body of a batch: at once where it is nothing but plain tokens, else as JSON. */
#include "batch_body.h"

#include <string.h>

#include "clean.h"
#include "http/exchange/response.h"
#include "request_fields.h"

/* --- plain tokens --- */

static void skip_blanks(struct text *rest)
{
    while (rest->length > 0 && memchr(" \t\r\n", rest->data[0], 4)) {
        rest->data++;
        rest->length--;
    }
}

static bool skip_text(struct text *rest, struct text wanted)
{
    skip_blanks(rest);
    if (rest->length < wanted.length || memcmp(rest->data, wanted.data, wanted.length) != 0)
        return false;
    *rest = (struct text){rest->data + wanted.length, rest->length - wanted.length};
    return true;
}

/* The string of a token's characters that the text continues with. */
static bool take_plain(struct text *rest, struct text *ret)
{
    if (!skip_text(rest, TEXT("\"")))
        return false;
    const char *quote = rest->length > 0 ? memchr(rest->data, '"', rest->length) : NULL;
    if (!quote)
        return false;
    *ret = (struct text){rest->data, (size_t)(quote - rest->data)};
    *rest = (struct text){quote + 1, rest->length - ret->length - 1};
    for (size_t i = 0; i < ret->length; i++)
        if (ret->data[i] < ' ' || ret->data[i] > '~' || ret->data[i] == '\\')
            return false;
    return true;
}

static bool take_touch(struct text *rest, bool *ret)
{
    if (!skip_text(rest, TEXT(",")))
        return true;
    *ret = false;
    if (!skip_text(rest, TEXT("\"touch\"")) || !skip_text(rest, TEXT(":")))
        return false;
    *ret = skip_text(rest, TEXT("true"));
    return *ret || skip_text(rest, TEXT("false"));
}

/* Reads {"tokens":["…",…]} and {"tokens":[…],"touch":…} if no string has escapes: what callers send
 * but for errors, at a tenth of what a tree costs. False for everything else, right or wrong. */
static bool read_plain(struct request *request, struct batch_body *ret)
{
    struct text rest = request->body;
    ret->count = 0;
    if (!skip_text(&rest, TEXT("{")) || !skip_text(&rest, TEXT("\"tokens\"")) ||
        !skip_text(&rest, TEXT(":")) || !skip_text(&rest, TEXT("[")))
        return false;
    do {
        struct text token;
        if (ret->count == BATCH_MAX || !take_plain(&rest, &token))
            return false;
        ret->elements[ret->count++] = (struct batch_element){.token = token};
    } while (skip_text(&rest, TEXT(",")));
    if (!skip_text(&rest, TEXT("]")) || !take_touch(&rest, &ret->touch) ||
        !skip_text(&rest, TEXT("}")))
        return false;
    skip_blanks(&rest);
    return rest.length == 0;
}

/* --- JSON --- */

static enum handled refuse_batch(struct request *request, struct text detail)
{
    return response_fail(request, ERR_BODY_INVALID, detail);
}

static bool take_text(struct request *request, const struct json_view *value, struct text *ret)
{
    struct text text;
    if (!json_view_text(value, &text))
        return false;
    *ret = arena_copy(&request->arena, text);
    return true;
}

/* Members that merely decorate are cleaned. A typing error must not pass for a member that is
 * absent, so an unknown one makes the element malformed. */
static bool read_members(struct request *request, const struct json_view *object,
                         struct batch_element *ret)
{
    struct json_member member = {0};
    while (json_view_next(object, &member)) {
        struct text name = text_of(member.name), text = {0};
        bool token = text_equal(name, TEXT("token")), ip = text_equal(name, TEXT("ip"));
        if (!token && !ip && !text_equal(name, TEXT("device_fingerprint")))
            return false;
        if (json_view_is_null(member.value) && !token)
            continue;
        if (!take_text(request, member.value, &text))
            return false;
        if (token)
            ret->token = text;
        else if (ip)
            ret->ip = clean_text(text, SIZE_MAX, &request->arena);
        else
            ret->device_fingerprint = clean_text(text, FINGERPRINT_MAX, &request->arena);
    }
    return ret->token.data != NULL;
}

static enum handled read_element(struct request *request, const struct json_view *value,
                                 size_t index, struct batch_element *ret)
{
    *ret = (struct batch_element){0};
    if (take_text(request, value, &ret->token))
        return GO_ON;
    if (!json_view_is_object(value))
        return refuse_batch(request,
                            arena_format(&request->arena,
                                         "\"tokens[%zu]\" must be a token, or an object with "
                                         "\"token\", \"ip\" and \"device_fingerprint\"",
                                         index));
    if (!read_members(request, value, ret))
        *ret = (struct batch_element){0};
    return GO_ON;
}

static enum handled read_tokens(struct request *request, const struct json_view *tokens,
                                struct batch_body *ret)
{
    size_t count = json_view_count(tokens);
    if (!tokens || !json_view_is_array(tokens) || count < 1 || count > BATCH_MAX)
        return refuse_batch(request, TEXT("\"tokens\" must be an array of 1 to 1000 elements, each "
                                          "a token or an object with \"token\""));
    ret->count = count;
    for (size_t i = 0; i < count; i++)
        if (read_element(request, json_view_item(tokens, i), i, &ret->elements[i]))
            return ANSWERED;
    return GO_ON;
}

static enum handled read_others(struct request *request, const struct json_view *root,
                                struct batch_body *ret)
{
    struct json_member member = {0};
    ret->touch = true;
    while (json_view_next(root, &member)) {
        struct text name = text_of(member.name);
        if (text_equal(name, TEXT("tokens")))
            continue;
        if (!text_equal(name, TEXT("touch"))) {
            struct text shown = clean_text(name, 64, &request->arena);
            return refuse_batch(request,
                                arena_format(&request->arena,
                                             "\"%.*s\" is not known here; known are: \"tokens\", "
                                             "\"touch\"",
                                             (int)shown.length, shown.data));
        }
        if (!json_view_is_null(member.value) && !json_view_bool(member.value, &ret->touch))
            return refuse_batch(request, TEXT("\"touch\" must be true or false"));
    }
    return GO_ON;
}

static enum handled read_json(struct request *request, struct batch_body *ret)
{
    SCOPED(buffer_free) struct buffer error = {0};
    SCOPED(json_view_close) struct json_view *root = json_view_open(request->body, &error);
    if (!root)
        return refuse_batch(request, arena_copy(&request->arena, buffer_text(&error)));
    if (read_others(request, root, ret))
        return ANSWERED;
    return read_tokens(request, json_view_member(root, "tokens"), ret);
}

enum handled batch_body_read(struct request *request, struct batch_body *ret)
{
    if (request->body.length > 0 && api_check_type(request, "application/json"))
        return ANSWERED;
    ret->touch = true;
    /* An element takes at least three bytes: "", */
    size_t most = request->body.length / 3 + 1;
    most = most < BATCH_MAX ? most : BATCH_MAX;
    ret->elements = arena_alloc(&request->arena, most * sizeof(*ret->elements));
    return read_plain(request, ret) ? GO_ON : read_json(request, ret);
}
