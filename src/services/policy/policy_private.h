/* Shared by the policy*.c files: the rows of tbl/policy.h as data, and documents in memory. */
#pragma once

#include <stdatomic.h>

#include "json.h"
#include "policy.h"

enum policy_member {
#define POLICY_MEMBER(kind, path, field, option, bit, say) POLICY_ID_##field,
#include "tbl/policy.h"
    POLICY_MEMBERS
};

enum policy_kind {
    POLICY_SECONDS,
    POLICY_INT,
    POLICY_BYTES,
    POLICY_ENUM,
    POLICY_FLAGS,
    POLICY_BOOL,
    POLICY_FLAG
};

/* Authors of a member: the tenant only, also roles and device types (the smallest or largest value
 * wins), or the platform only. */
enum policy_say { POLICY_SAY_TENANT, POLICY_SAY_SMALLEST, POLICY_SAY_LARGEST, POLICY_SAY_PLATFORM };

struct policy_row {
    const char *path;
    size_t offset; /* of the int64_t in struct policy */
    size_t option; /* of the default in struct conf */
    enum policy_kind kind;
    enum policy_say say;
};
extern const struct policy_row policy_rows[POLICY_MEMBERS];

/* The member of a policy by its row. */
static inline int64_t *policy_value(struct policy *policy, enum policy_member member)
{
    return (int64_t *)(void *)((char *)policy + policy_rows[member].offset);
}

/* Appends a value as JSON. */
void policy_print_value(struct json_writer *writer, enum policy_member member, int64_t value);

/* The settings in a document: one bit and one value for each set member. */
struct policy_settings {
    uint64_t set;
    int64_t values[POLICY_MEMBERS];
};
_Static_assert(POLICY_MEMBERS <= 64, "a bit for each member");

/* Members that roles and device types may have: the first rows, up to max_devices. */
enum { POLICY_OVERRIDES = POLICY_ID_max_devices + 1, POLICY_NAMED_MAX = 64, POLICY_NAME_MAX = 128 };

/* A role or a device type. */
struct policy_override {
    struct text name; /* in a document, a role's is escaped as by json_text() */
    uint64_t set;     /* bits by enum policy_member */
    int64_t values[POLICY_OVERRIDES];
};

/* All roles or device types, sorted by policy_compare_names() for a binary search. */
struct policy_named {
    struct policy_override *items;
    size_t count;
    uint64_t hints; /* policy_name_hint() of all: rules out most unknown names at once */
};

/* One bit for a name that is not empty. */
static inline uint64_t policy_name_hint(struct text name)
{
    unsigned first = (unsigned char)name.data[0], last = (unsigned char)name.data[name.length - 1];
    return UINT64_C(1) << ((first * 5 + last + name.length) & 63);
}

/* A document while it is parsed. */
struct policy_draft {
    struct policy_settings tenant;
    struct policy_named roles, types;
};

/* A document is one piece of memory; everything it points to follows it. */
struct policy_document {
    atomic_uint references;
    uint64_t set;          /* bits by enum policy_member */
    const int64_t *values; /* of the set bits, in their order */
    struct policy_named roles, types;
    struct text json;
    size_t bytes; /* of the whole piece */
};

/* Shorter names first, then by their bytes. */
int policy_compare_names(struct text a, struct text b);

/* How strictly a text is read. */
enum policy_care {
    POLICY_AS_GIVEN, /* every fault is an error */
    POLICY_AS_PATCH, /* the same, but every member, also a stored one, may be null */
    POLICY_AS_STORED /* members that are not valid any more are skipped */
};
/* Fills a zeroed draft, whose lists and names lie in the arena; false with a sentence in *error.
 * `stored` is the document that a patch is for, else NULL. */
bool policy_read(const struct json_view *root, const struct json_view *stored,
                 enum policy_care care, struct arena *arena, struct policy_draft *draft,
                 struct buffer *error);
/* False with a sentence in *error if members contradict each other or the defaults. */
bool policy_check(const struct conf *conf, const struct policy_draft *draft, struct buffer *error);
