/* One list of members serves writing and reading. */
#include "login_request.h"

#include <assert.h>

#include "bytes.h"
#include "record.h"
#include "session/model/strength.h"

enum { REMEMBER = 1, SECOND_FACTOR = 2, COOKIE = 4, STRENGTH = 8, FLAGS = 15 };
enum { AUTH_TIME = 5, METHODS_WIDTH = 4 }; /* widths in bytes */

/* The texts, in order. */
static const size_t members[] = {
    offsetof(struct login, tenant),      offsetof(struct login, user_id),
    offsetof(struct login, device.id),   offsetof(struct login, device.type),
    offsetof(struct login, device.name), offsetof(struct login, device.fingerprint),
    offsetof(struct login, ip),          offsetof(struct login, user_agent),
    offsetof(struct login, attributes),
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

static void put_request_text(struct buffer *out, struct text text)
{
    assert(text.length <= UINT16_MAX);
    bytes_add(out, text.length, 2);
    buffer_add_text(out, text);
}

static void put_strength(struct buffer *out, const struct login *login)
{
    bytes_add(out, (uint64_t)login->authentication.auth_s, AUTH_TIME);
    bytes_add(out, login->authentication.amr, METHODS_WIDTH);
    put_request_text(out, login->authentication.acr);
    put_request_text(out, login->grants);
}

void login_request_write(const struct login *login, unsigned format, struct buffer *out)
{
    assert(login->role_count <= UINT8_MAX);
    bool strength = format > RECORD_FORMAT_LEAST &&
                    (!strength_is_unstated(&login->authentication) || login->grants.length > 0);
    buffer_add_char(out, (char)((login->remember ? REMEMBER : 0) |
                                (login->second_factor ? SECOND_FACTOR : 0) |
                                (login->cookie ? COOKIE : 0) | (strength ? STRENGTH : 0)));
    buffer_add_char(out, (char)login->role_count);
    for (size_t i = 0; i < MEMBERS; i++)
        put_request_text(out, *(const struct text *)((const char *)login + members[i]));
    for (size_t i = 0; i < login->role_count; i++)
        put_request_text(out, login->roles[i]);
    if (strength)
        put_strength(out, login);
}

static struct text take_request_text(struct cursor *left)
{
    struct text taken = bytes_take(left, bytes_number(left, 2));
    return taken.length > 0 ? taken : (struct text){0};
}

static void take_strength(struct cursor *left, struct login *login)
{
    login->authentication.auth_s = (int64_t)bytes_number(left, AUTH_TIME);
    login->authentication.amr = (uint32_t)bytes_number(left, METHODS_WIDTH);
    login->authentication.acr = take_request_text(left);
    login->grants = take_request_text(left);
}

bool login_request_read(struct text bytes, struct arena *arena, struct login *login)
{
    struct cursor left = {bytes.data, bytes.length, false};
    uint8_t flags = (uint8_t)bytes_number(&left, 1);
    size_t role_count = bytes_number(&left, 1);
    if (left.broken || flags & ~FLAGS)
        return false;
    login->remember = flags & REMEMBER;
    login->second_factor = flags & SECOND_FACTOR;
    login->cookie = flags & COOKIE;
    login->role_count = role_count;
    for (size_t i = 0; i < MEMBERS; i++)
        *(struct text *)((char *)login + members[i]) = take_request_text(&left);
    struct text *roles = arena_zalloc(arena, (role_count + 1) * sizeof(*roles));
    for (size_t i = 0; i < role_count; i++)
        roles[i] = take_request_text(&left);
    login->roles = roles;
    login->authentication = (struct authentication){0};
    login->grants = (struct text){0};
    if (flags & STRENGTH)
        take_strength(&left, login);
    return !left.broken && left.left == 0 && login->tenant.data && login->user_id.data;
}
