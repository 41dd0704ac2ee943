/* Encodes, measures and adds the X-Session-… headers. */
#include "identity_headers.h"

#include <assert.h>
#include <string.h>

#define PREFIX "X-Session-"

static bool may_stand_in_value(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '%' && c != ',';
}

struct text authz_encode(struct arena *arena, struct text text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t plain = 0;
    while (plain < text.length && may_stand_in_value((unsigned char)text.data[plain]))
        plain++;
    if (plain == text.length)
        return text;
    char *out = arena_alloc(arena, 3 * text.length), *end = out;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (may_stand_in_value(c)) {
            *end++ = (char)c;
            continue;
        }
        *end++ = '%';
        *end++ = digits[c >> 4];
        *end++ = digits[c & 15];
    }
    return (struct text){out, (size_t)(end - out)};
}

struct text authz_join_roles(struct arena *arena, const struct text *roles, size_t count,
                             size_t room, bool *truncated)
{
    char *out = arena_alloc(arena, room + 1), *end = out;
    for (size_t i = 0; i < count; i++) {
        struct text role = authz_encode(arena, roles[i]);
        size_t comma = end > out;
        if ((size_t)(end - out) + comma + role.length > room) {
            *truncated = true;
            continue;
        }
        if (comma)
            *end++ = ',';
        end = mempcpy(end, role.data, role.length);
    }
    return (struct text){out, (size_t)(end - out)};
}

/* The headers, in the order of their row. */
enum {
    IDENTITY_AUTHENTICATED,
    IDENTITY_USER,
    IDENTITY_TENANT,
    IDENTITY_ROLES,
    IDENTITY_ID,
    IDENTITY_DEVICE,
    IDENTITY_DEVICE_TYPE,
    IDENTITY_EXPIRES,
    IDENTITY_STALE,
    IDENTITY_EXTENDED,
    IDENTITY_TRUNCATED,
    IDENTITY_JWT,
    IDENTITY_HEADERS
};

static const char *const names[IDENTITY_HEADERS] = {
    [IDENTITY_AUTHENTICATED] = PREFIX "Authenticated",
    [IDENTITY_USER] = PREFIX "User",
    [IDENTITY_TENANT] = PREFIX "Tenant",
    [IDENTITY_ROLES] = PREFIX "Roles",
    [IDENTITY_ID] = PREFIX "Id",
    [IDENTITY_DEVICE] = PREFIX "Device",
    [IDENTITY_DEVICE_TYPE] = PREFIX "Device-Type",
    [IDENTITY_EXPIRES] = PREFIX "Expires",
    [IDENTITY_STALE] = PREFIX "Stale",
    [IDENTITY_EXTENDED] = PREFIX "Extended",
    [IDENTITY_TRUNCATED] = PREFIX "Truncated",
    [IDENTITY_JWT] = PREFIX "Jwt",
};

/* Bytes of the headers without roles, as they are sent. */
static size_t headers_size(const struct text values[IDENTITY_HEADERS])
{
    size_t size = 0;
    for (size_t i = 0; i < IDENTITY_HEADERS; i++)
        size += strlen(names[i]) + strlen(": \r\n") + (values[i].length > 0 ? values[i].length : 1);
    return size;
}

static struct text number(struct arena *arena, bool there, int64_t value)
{
    return there ? arena_format(arena, "%lld", (long long)value) : TEXT("");
}

/* Names one more thing that was left out. */
static struct text add_truncated(struct arena *arena, struct text before, const char *name)
{
    return arena_format(arena, "%.*s%s%s", (int)before.length, before.data ? before.data : "",
                        before.length > 0 ? "," : "", name);
}

/* The roles give way first, then the device, which decides nothing; last the signed identity, whose
 * receiver then lets nobody in. */
static void fit(struct arena *arena, const struct authz_identity *identity,
                struct text values[IDENTITY_HEADERS])
{
    enum { ROOM = AUTHZ_HEADERS_MOST - AUTHZ_OTHERS_MOST };
    bool truncated = false;
    struct text left_out = {0};
    values[IDENTITY_TRUNCATED] = TEXT("roles,device,jwt");
    size_t taken = headers_size(values);
    bool device = taken > ROOM, jwt = false;
    if (device) {
        values[IDENTITY_DEVICE] = values[IDENTITY_DEVICE_TYPE] = TEXT("");
        taken = headers_size(values);
        jwt = taken > ROOM && values[IDENTITY_JWT].length > 0;
    }
    if (jwt) {
        values[IDENTITY_JWT] = TEXT("");
        taken = headers_size(values);
    }
    values[IDENTITY_ROLES] = authz_join_roles(arena, identity->roles, identity->role_count,
                                              taken < ROOM ? ROOM - taken : 0, &truncated);
    if (truncated)
        left_out = add_truncated(arena, left_out, "roles");
    if (device)
        left_out = add_truncated(arena, left_out, "device");
    if (jwt)
        left_out = add_truncated(arena, left_out, "jwt");
    values[IDENTITY_TRUNCATED] = left_out;
}

void authz_add_identity(struct request *request, const struct authz_identity *identity)
{
    struct arena *arena = &request->arena;
    struct text values[IDENTITY_HEADERS] = {
        [IDENTITY_AUTHENTICATED] = identity->authenticated ? TEXT("yes") : TEXT("no"),
        [IDENTITY_USER] = authz_encode(arena, identity->user),
        [IDENTITY_TENANT] = authz_encode(arena, identity->tenant),
        [IDENTITY_ID] = identity->session_id,
        [IDENTITY_DEVICE] = authz_encode(arena, identity->device),
        [IDENTITY_DEVICE_TYPE] = authz_encode(arena, identity->device_type),
        [IDENTITY_EXPIRES] = number(arena, identity->expires_s != 0, identity->expires_s),
        [IDENTITY_STALE] = number(arena, identity->stale, identity->stale_for_s),
        [IDENTITY_JWT] = identity->jwt,
    };
    assert(identity->authenticated || identity->user.length == 0);
    fit(arena, identity, values);
    for (size_t i = 0; i < IDENTITY_HEADERS; i++)
        request_header(request, names[i], values[i].length > 0 ? values[i] : TEXT(""));
}
