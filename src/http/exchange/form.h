/* Reads bodies of application/x-www-form-urlencoded (RFC 6749, appendix B) into structs, by a table
 * of members. Pure. */
#pragma once

#include "memory.h"

enum form_kind {
    FORM_TEXT,      /* clean UTF-8 of at most `maximum` bytes, else refused */
    FORM_ANY,       /* any bytes: the member is judged later */
    FORM_DECORATION /* as clean_text() leaves it, at most `maximum` bytes */
};

/* A row describes one `struct text` of the target struct. */
struct form_field {
    const char *name;
    enum form_kind kind;
    size_t offset;
    size_t maximum;
};

/* The most members of a form. */
enum { FORM_MEMBERS_MAX = 64 };

/* Reads a form into *target, which the caller has zeroed. The values lie in the arena. '+' is a
 * blank, %XX any byte. Unknown members are ignored and a member without a value reads as absent
 * (RFC 6749, section 3.2); one that comes twice is refused, known or not. On failure returns false
 * and sets *detail to a sentence that names the member, never its value. */
bool form_read(struct text body, const struct form_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail);
