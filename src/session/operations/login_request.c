/* One list of members serves writing and reading. */
#include "login_request.h"

#include <assert.h>

#include "bytes.h"

enum { REMEMBER = 1, SECOND_FACTOR = 2, COOKIE = 4, FLAGS = 7 };

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

void login_request_write(const struct login *login, struct buffer *out)
{
    assert(login->role_count <= UINT8_MAX);
    buffer_add_char(out, (char)((login->remember ? REMEMBER : 0) |
                                (login->second_factor ? SECOND_FACTOR : 0) |
                                (login->cookie ? COOKIE : 0)));
    buffer_add_char(out, (char)login->role_count);
    for (size_t i = 0; i < MEMBERS; i++)
        put_request_text(out, *(const struct text *)((const char *)login + members[i]));
    for (size_t i = 0; i < login->role_count; i++)
        put_request_text(out, login->roles[i]);
}

static struct text take_request_text(struct cursor *left)
{
    struct text taken = bytes_take(left, bytes_number(left, 2));
    return taken.length > 0 ? taken : (struct text){0};
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
    return !left.broken && left.left == 0 && login->tenant.data && login->user_id.data;
}
