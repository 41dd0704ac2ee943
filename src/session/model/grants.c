/* The items: written and searched. */
#include "grants.h"

#include "bytes.h"
#include "memory.h"

enum { ROLE_LENGTH = 1, GRANTER_LENGTH = 2 };

bool grants_add(struct buffer *out, struct text role, struct text granter)
{
    if (role.length < 1 || role.length > UINT8_MAX || granter.length < 1 ||
        granter.length > UINT16_MAX)
        return false;
    bytes_add(out, role.length, ROLE_LENGTH);
    buffer_add_text(out, role);
    bytes_add(out, granter.length, GRANTER_LENGTH);
    buffer_add_text(out, granter);
    return true;
}

struct text grants_find(struct text grants, struct text role)
{
    struct cursor left = {grants.data, grants.length, false};
    while (left.left > 0 && !left.broken) {
        struct text name = bytes_take(&left, bytes_number(&left, ROLE_LENGTH));
        struct text granter = bytes_take(&left, bytes_number(&left, GRANTER_LENGTH));
        if (!left.broken && text_equal(name, role))
            return granter;
    }
    return (struct text){0};
}
