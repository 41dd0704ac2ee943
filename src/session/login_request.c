/* Written and read by the same list of members. */
#include "login_request.h"

#include <assert.h>

enum { REMEMBER = 1, SECOND_FACTOR = 2, COOKIE = 4, FLAGS = 7 };

/* The texts in their order. */
static const size_t members[] = {
    offsetof(struct login, tenant),      offsetof(struct login, user_id),
    offsetof(struct login, device.id),   offsetof(struct login, device.type),
    offsetof(struct login, device.name), offsetof(struct login, device.fingerprint),
    offsetof(struct login, ip),          offsetof(struct login, user_agent),
    offsetof(struct login, attributes),
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

static void put_text(struct buffer *out, struct text text)
{
    assert(text.length <= UINT16_MAX);
    buffer_add_char(out, (char)(text.length >> 8));
    buffer_add_char(out, (char)text.length);
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
        put_text(out, *(const struct text *)((const char *)login + members[i]));
    for (size_t i = 0; i < login->role_count; i++)
        put_text(out, login->roles[i]);
}

static bool take_text(struct text *rest, struct text *ret)
{
    const uint8_t *bytes = (const uint8_t *)rest->data;
    if (rest->length < 2)
        return false;
    size_t length = (size_t)bytes[0] << 8 | bytes[1];
    if (rest->length < 2 + length)
        return false;
    *ret = length > 0 ? (struct text){rest->data + 2, length} : (struct text){0};
    *rest = (struct text){rest->data + 2 + length, rest->length - 2 - length};
    return true;
}

bool login_request_read(struct text bytes, struct arena *arena, struct login *login)
{
    if (bytes.length < 2 || (uint8_t)bytes.data[0] & ~FLAGS)
        return false;
    uint8_t flags = (uint8_t)bytes.data[0];
    login->remember = flags & REMEMBER;
    login->second_factor = flags & SECOND_FACTOR;
    login->cookie = flags & COOKIE;
    login->role_count = (uint8_t)bytes.data[1];
    struct text rest = {bytes.data + 2, bytes.length - 2};
    bool good = true;
    for (size_t i = 0; i < MEMBERS && good; i++)
        good = take_text(&rest, (struct text *)((char *)login + members[i]));
    struct text *roles = arena_zalloc(arena, (login->role_count + 1) * sizeof(*roles));
    for (size_t i = 0; i < login->role_count && good; i++)
        good = take_text(&rest, &roles[i]);
    login->roles = roles;
    return good && rest.length == 0 && login->tenant.data && login->user_id.data;
}
