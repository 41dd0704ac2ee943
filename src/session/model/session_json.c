/* Writes the text of a session's static members at login, and finds its parts again.
 *
 * A search for a mark is exact because this file is the only writer: inside a string every quote is
 * escaped, so the unescaped sequence ,"device":{ occurs only where the writer put it, and
 * attributes, which may hold anything, come last. */
#include "session_json.h"

#include <string.h>

#include "json.h"
#include "session_json_marks.h"
#include "strength.h"

static const char attributes_mark[] = MARK_ATTRIBUTES;

static void write_authentication(struct json_writer *writer,
                                 const struct authentication *authentication)
{
    if (authentication->auth_s > 0)
        json_member_int(writer, "auth_time", authentication->auth_s);
    if (authentication->acr.data)
        json_member_string(writer, "acr", authentication->acr);
    if (authentication->amr == 0)
        return;
    json_member_array(writer, "amr");
    for (unsigned i = 0; authentication->amr >> i != 0; i++)
        if (authentication->amr >> i & 1)
            json_text(writer, session_amr_word(i));
    json_close_array(writer);
}

static void write_device(struct json_writer *writer, const struct device *device)
{
    json_member_object(writer, "device");
    if (device->id.data)
        json_member_string(writer, "id", device->id);
    if (device->type.data)
        json_member_string(writer, "type", device->type);
    if (device->name.data)
        json_member_string(writer, "name", device->name);
    json_close_object(writer);
}

void session_json_write(struct buffer *out, const struct login *login)
{
    struct json_writer writer = {.out = out};
    json_member_string(&writer, "tenant", login->tenant);
    json_member_string(&writer, "user_id", login->user_id);
    json_member_array(&writer, "roles");
    for (size_t i = 0; i < login->role_count; i++)
        json_text(&writer, login->roles[i]);
    json_close_array(&writer);
    struct authentication authentication = login->authentication;
    authentication.amr |= login->second_factor ? strength_mfa() : 0;
    write_authentication(&writer, &authentication);
    write_device(&writer, &login->device);
    if (login->attributes.length > 2)
        json_member_raw(&writer, "attributes", login->attributes);
}

/* Position after the object or string that starts at `start`. */
static size_t value_end(struct text json, size_t start)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = start; i < json.length; i++) {
        char c = json.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            depth++;
        } else if (c == '}') {
            depth--;
        }
        if (depth == 0 && !in_string)
            return i + 1;
    }
    return json.length;
}

struct text session_json_roles(struct text session_json)
{
    static const char mark[] = MARK_ROLES;
    const char *found = memmem(session_json.data, session_json.length, mark, sizeof(mark) - 1);
    if (!found)
        return (struct text){0};
    const char *start = found + sizeof(mark) - 1;
    const char *last = session_json.data + session_json.length;
    const char *at = start;
    for (bool in_string = false; at < last && (in_string || *at != ']'); at++) {
        at += in_string && *at == '\\';
        in_string ^= *at == '"' && !(in_string && at[-1] == '\\');
    }
    return at < last ? (struct text){start, (size_t)(at - start) + 1} : (struct text){0};
}

static bool find_device(struct text session_json, struct text *ret)
{
    static const char mark[] = MARK_DEVICE;
    const char *found = memmem(session_json.data, session_json.length, mark, sizeof(mark) - 1);
    if (!found)
        return false;
    size_t start = (size_t)(found - session_json.data) + sizeof(mark) - 1;
    *ret = (struct text){session_json.data + start, value_end(session_json, start) - start};
    return true;
}

struct text session_json_device(struct text session_json)
{
    struct text device;
    return find_device(session_json, &device) ? device : TEXT("{}");
}

/* Position after the device; the end, if there is none. */
static size_t device_end(struct text session_json)
{
    struct text device;
    return find_device(session_json, &device)
               ? (size_t)(device.data + device.length - session_json.data)
               : session_json.length;
}

/* Start of the attributes' member, its comma included; the end if there is none. */
static size_t attributes_start(struct text session_json)
{
    size_t from = device_end(session_json);
    const char *found = memmem(session_json.data + from, session_json.length - from,
                               attributes_mark, sizeof(attributes_mark) - 1);
    return found ? (size_t)(found - session_json.data) : session_json.length;
}

struct text session_json_attributes(struct text session_json)
{
    size_t start = attributes_start(session_json) + sizeof(attributes_mark) - 1;
    if (start >= session_json.length)
        return TEXT("{}");
    return (struct text){session_json.data + start, session_json.length - start};
}

bool session_json_fits(struct arena *arena, struct text session_json, int64_t most,
                       struct text *detail)
{
    const struct {
        const char *name;
        size_t length;
    } parts[] = {
        {"roles", session_json_roles(session_json).length},
        {"device", session_json_device(session_json).length},
        {"attributes", session_json_attributes(session_json).length},
    };
    size_t total = 0, largest = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        total += parts[i].length;
        if (parts[i].length > parts[largest].length)
            largest = i;
    }
    if ((int64_t)total <= most)
        return true;
    *detail = arena_format(arena,
                           "\"%s\" takes %zu bytes of compact JSON, and with the others of "
                           "\"roles\", \"device\" and \"attributes\" the session would take %zu; "
                           "\"limits.session_bytes\" of the tenant's policy is %lld",
                           parts[largest].name, parts[largest].length, total, (long long)most);
    return false;
}

struct text session_json_with_attributes(struct arena *arena, struct text session_json,
                                         struct text attributes)
{
    const size_t mark = sizeof(attributes_mark) - 1;
    size_t kept = attributes_start(session_json);
    char *text = arena_alloc(arena, kept + mark + attributes.length);
    char *end = mempcpy(text, session_json.data, kept);
    /* As at login: no attributes, no member. */
    if (attributes.length > 2)
        end = mempcpy(mempcpy(end, attributes_mark, mark), attributes.data, attributes.length);
    return (struct text){text, (size_t)(end - text)};
}

/* --- parts --- */

static bool skip(struct text *rest, struct text literal)
{
    if (rest->length < literal.length || memcmp(rest->data, literal.data, literal.length) != 0)
        return false;
    *rest = (struct text){rest->data + literal.length, rest->length - literal.length};
    return true;
}

/* Cuts the string off that the rest begins with, without its quotes; false if it does not end. */
static bool take_string(struct text *rest, struct text *ret)
{
    if (rest->length == 0 || rest->data[0] != '"')
        return false;
    for (size_t i = 1; i < rest->length; i++) {
        if (rest->data[i] == '\\') {
            i++;
        } else if (rest->data[i] == '"') {
            *ret = (struct text){rest->data + 1, i - 1};
            *rest = (struct text){rest->data + i + 1, rest->length - i - 1};
            return true;
        }
    }
    return false;
}

static bool skip_string(struct text *rest)
{
    struct text string;
    return take_string(rest, &string);
}

static bool skip_roles(struct text *rest)
{
    if (skip(rest, TEXT("]")))
        return true;
    do {
        if (!skip_string(rest))
            return false;
    } while (skip(rest, TEXT(",")));
    return skip(rest, TEXT("]"));
}

/* --- the authentication --- */

static bool take_number(struct text *rest, int64_t *ret)
{
    size_t length = 0;
    while (length < rest->length && rest->data[length] >= '0' && rest->data[length] <= '9')
        length++;
    bool good = text_to_int((struct text){rest->data, length}, 0, STORED_S_MAX, ret);
    *rest = (struct text){rest->data + length, rest->length - length};
    return good;
}

/* Unknown methods, of a later version, are skipped. */
static bool take_methods(struct text *rest, uint32_t *ret)
{
    struct text word;
    do {
        if (!take_string(rest, &word))
            return false;
        *ret |= session_find_amr(word);
    } while (skip(rest, TEXT(",")));
    return skip(rest, TEXT("]"));
}

/* Takes the members off the text after the roles; false if one is not as it is written here. */
static bool take_authentication(struct text *rest, struct authentication *ret)
{
    *ret = (struct authentication){0};
    return (!skip(rest, TEXT(MARK_AUTH_TIME)) || take_number(rest, &ret->auth_s)) &&
           (!skip(rest, TEXT(MARK_ACR)) || take_string(rest, &ret->acr)) &&
           (!skip(rest, TEXT(MARK_AMR "[")) || take_methods(rest, &ret->amr));
}

static struct text after_roles(struct text session_json)
{
    struct text roles = session_json_roles(session_json);
    if (!roles.data)
        return (struct text){0};
    const char *end = roles.data + roles.length;
    return (struct text){end, (size_t)(session_json.data + session_json.length - end)};
}

struct authentication session_json_authentication(struct text session_json)
{
    struct text rest = after_roles(session_json);
    struct authentication found;
    return take_authentication(&rest, &found) ? found : (struct authentication){0};
}

struct text session_json_authentication_text(struct text session_json)
{
    struct text begin = after_roles(session_json), rest = begin;
    struct authentication found;
    if (!take_authentication(&rest, &found) || rest.data == begin.data)
        return (struct text){0};
    return (struct text){begin.data + 1, (size_t)(rest.data - begin.data) - 1};
}

/* No class has a quote (conf_is_acr()), so the mark stands for itself. */
struct text session_json_amr(struct text session_json)
{
    static const char mark[] = MARK_AMR;
    struct text members = session_json_authentication_text(session_json);
    if (!members.data)
        return (struct text){0};
    const char *name = &mark[1], *found = memmem(members.data, members.length, name, strlen(name));
    if (!found)
        return (struct text){0};
    const char *value = found + strlen(name);
    return (struct text){value, (size_t)(members.data + members.length - value)};
}

struct text session_json_with_authentication(struct arena *arena, struct text session_json,
                                             const struct authentication *authentication)
{
    SCOPED(buffer_free) struct buffer out = {0};
    struct text begin = after_roles(session_json), rest = begin;
    struct authentication before;
    if (!begin.data || !take_authentication(&rest, &before))
        return session_json;
    struct json_writer writer = {.out = &out, .comma = true};
    buffer_add(&out, session_json.data, (size_t)(begin.data - session_json.data));
    write_authentication(&writer, authentication);
    buffer_add_text(&out, rest);
    return arena_copy(arena, buffer_text(&out));
}

/* --- checking --- */

/* Skips the members of a device, in their order. */
static bool skip_device(struct text *rest)
{
    static const struct text names[] = {
        {MARK_DEVICE_ID, sizeof(MARK_DEVICE_ID) - 1},
        {MARK_DEVICE_TYPE, sizeof(MARK_DEVICE_TYPE) - 1},
        {MARK_DEVICE_NAME, sizeof(MARK_DEVICE_NAME) - 1},
    };
    bool first = true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct text at = *rest;
        if (!(first || skip(&at, TEXT(","))) || !skip(&at, names[i]))
            continue;
        if (!skip_string(&at))
            return false;
        *rest = at;
        first = false;
    }
    return skip(rest, TEXT("}"));
}

static bool is_json(struct text session_json)
{
    SCOPED(buffer_free) struct buffer object = {0}, error = {0};
    buffer_add_char(&object, '{');
    buffer_add_text(&object, session_json);
    buffer_add_char(&object, '}');
    SCOPED(json_view_close) struct json_view *view = json_view_open(buffer_text(&object), &error);
    return view != NULL;
}

static bool is_last(struct text rest)
{
    return skip(&rest, TEXT(attributes_mark)) && rest.length > 0 && rest.data[0] == '{' &&
           value_end(rest, 0) == rest.length;
}

bool session_json_is_whole(struct text session_json)
{
    struct text rest = session_json;
    struct authentication authentication;
    return session_json.length > 0 && is_json(session_json) && skip(&rest, TEXT(MARK_TENANT)) &&
           skip_string(&rest) && skip(&rest, TEXT(MARK_USER_ID)) && skip_string(&rest) &&
           skip(&rest, TEXT(MARK_ROLES "[")) && skip_roles(&rest) &&
           take_authentication(&rest, &authentication) && skip(&rest, TEXT(MARK_DEVICE "{")) &&
           skip_device(&rest) && (rest.length == 0 || is_last(rest));
}

/* --- completing --- */

struct text session_json_complete(struct arena *arena, struct text stored,
                                  const uint8_t session_id[SESSION_ID], int64_t began_s)
{
    static const char id_mark[] = MARK_SESSION_ID "\"", created_mark[] = "\"" MARK_CREATED_AT;
    static const char no_attributes[] = MARK_ATTRIBUTES "{}";
    bool has_attributes = device_end(stored) < stored.length;
    char *text = arena_alloc(arena, stored.length + sizeof(id_mark) + sizeof(created_mark) +
                                        sizeof(no_attributes) + 2 * SESSION_ID + 24);
    char *end = mempcpy(text, stored.data, stored.length);
    if (!has_attributes)
        end = mempcpy(end, no_attributes, sizeof(no_attributes) - 1);
    end = mempcpy(end, id_mark, sizeof(id_mark) - 1);
    text_to_hex(end, session_id, SESSION_ID);
    end = mempcpy(end + 2 * SESSION_ID, created_mark, sizeof(created_mark) - 1);
    char digits[24];
    char *first = digits + sizeof(digits);
    for (int64_t rest = began_s; rest > 0; rest /= 10)
        *--first = (char)('0' + rest % 10);
    end = mempcpy(end, first, (size_t)(digits + sizeof(digits) - first));
    return (struct text){text, (size_t)(end - text)};
}

/* --- single strings --- */

/* The string of a member (its name at most 8 bytes) of a device object; absent if there is none. */
static struct text find_device_string(struct text device, const char *name)
{
    char mark[16] = "\"";
    size_t length = (size_t)(stpcpy(stpcpy(mark + 1, name), "\":\"") - mark);
    struct text string = {0};
    const char *found = memmem(device.data, device.length, mark, length);
    if (!found)
        return string;
    const char *quote = found + length - 1;
    struct text rest = {quote, (size_t)(device.data + device.length - quote)};
    return take_string(&rest, &string) ? string : (struct text){0};
}

bool session_json_find_names(struct text session_json, struct names *ret)
{
    struct text rest = session_json;
    return skip(&rest, TEXT(MARK_TENANT)) && take_string(&rest, &ret->tenant) &&
           skip(&rest, TEXT(MARK_USER_ID)) && take_string(&rest, &ret->user_id);
}

void session_json_find_strings(struct text session_json, struct session_json_strings *ret)
{
    struct text device = session_json_device(session_json);
    *ret = (struct session_json_strings){
        .device_id = find_device_string(device, "id"),
        .device_type = find_device_string(device, "type"),
    };
    if (!session_json_find_names(session_json, &ret->names))
        ret->names = (struct names){0};
}

/* The writer escapes quotes and backslashes alone, each with one backslash: these texts have no
 * control characters. */
static struct text without_escapes(struct text string, struct arena *arena)
{
    if (string.length == 0 || !memchr(string.data, '\\', string.length))
        return string;
    char *copy = arena_alloc(arena, string.length + 1);
    size_t length = 0;
    for (size_t i = 0; i < string.length; i++) {
        if (string.data[i] == '\\')
            i++;
        copy[length++] = string.data[i];
    }
    return (struct text){copy, length};
}

struct text session_json_device_member(struct arena *arena, struct text device, const char *name)
{
    struct text string = find_device_string(device, name);
    return string.data ? without_escapes(string, arena) : string;
}

bool session_json_next_role(struct text *rest, struct arena *arena, struct text *ret)
{
    struct text string;
    if (!(skip(rest, TEXT("[")) || skip(rest, TEXT(","))) || !take_string(rest, &string))
        return false;
    *ret = without_escapes(string, arena);
    return true;
}
