/* JSON: a small writer for the hot path, and table-driven reading of request bodies (jansson).
 *
 * The writer appends to a buffer and keeps no state but "is a comma due"; the caller balances
 * braces. The reader turns a body into a struct, row by row, and names each fault exactly.
 *
 * Names keep clear of jansson's own: json_string, json_null, JSON_OBJECT and JSON_INTEGER are taken
 * there, hence json_text, json_none, JSON_MEMBERS and JSON_INT here. */
#pragma once

#include "memory.h"
#include "text.h"

struct json_writer {
    struct buffer *out;
    bool comma; /* the next member or element needs a comma before it */
};

void json_open_object(struct json_writer *writer);
void json_close_object(struct json_writer *writer);
void json_open_array(struct json_writer *writer);
void json_close_array(struct json_writer *writer);
/* `"name":` - the name is a literal that needs no escaping, here and in what follows. */
void json_name(struct json_writer *writer, const char *name);
/* Values; strings are escaped (RFC 8259 section 7), control characters as \u00XX, and invalid
 * UTF-8 is replaced by U+FFFD. */
void json_text(struct json_writer *writer, struct text value);
void json_int(struct json_writer *writer, int64_t value);
void json_bool(struct json_writer *writer, bool value);
void json_none(struct json_writer *writer);
/* Text that is JSON already: one value, or members without their braces. Nothing if empty. */
void json_raw(struct json_writer *writer, struct text json);
/* Name and value in one. An absent text is written as null. */
void json_member_string(struct json_writer *writer, const char *name, struct text value);
void json_member_int(struct json_writer *writer, const char *name, int64_t value);
void json_member_bool(struct json_writer *writer, const char *name, bool value);
void json_member_raw(struct json_writer *writer, const char *name, struct text json);
/* Name and opening bracket. */
void json_member_object(struct json_writer *writer, const char *name);
void json_member_array(struct json_writer *writer, const char *name);
/* The escaped inside of a string, without quotes. */
void json_escape(struct buffer *out, struct text value);

/* One member of a body. Rows describe a struct whose fields lie at `offset`. */
enum json_kind {
    JSON_TEXT,       /* struct text: UTF-8 without control characters, minimum..maximum bytes */
    JSON_ID,         /* the same, and no credential (clean.h): ids are shown and logged */
    JSON_ANY_TEXT,   /* struct text: any string, unchanged */
    JSON_DECORATION, /* struct text: any string, as clean_text() leaves it, `maximum` bytes; one
                        without any character left reads as absent, or as empty if minimum is 0 */
    JSON_BOOLEAN,    /* bool */
    JSON_TRISTATE,   /* enum tristate: a boolean whose absence is not false */
    JSON_INT,        /* int64_t, minimum..maximum */
    JSON_TEXT_ARRAY, /* struct json_texts: at most `maximum` texts of 1..128 bytes */
    JSON_MEMBERS,    /* read by `members` into the struct at offset */
    JSON_ANY_OBJECT  /* struct text: any object, printed compactly, at most `maximum` bytes */
};

enum tristate { TRISTATE_ABSENT, TRISTATE_FALSE, TRISTATE_TRUE };

struct json_texts {
    struct text *items;
    size_t count;
};

struct json_field {
    const char *name;
    enum json_kind kind;
    bool required;
    size_t offset;
    int64_t minimum;
    int64_t maximum;
    const struct json_field *members; /* JSON_MEMBERS only */
    size_t member_count;
    /* JSON_INT, texts: the expected value in words that say more than the bounds, or NULL. */
    const char *meaning;
};

/* Reads a body of one object into *target, which the caller has zeroed. Everything read lives in
 * the arena. Unknown members, duplicates, wrong types, invalid UTF-8, NUL and bytes after the
 * object are refused. `null` reads as absent for a member that is not required. On failure returns
 * false and sets *detail to a sentence that names the member; a value that may be secret is never
 * repeated. A body of blanks alone reads as {}, so does `null` where no member is required. */
bool json_read(struct text body, const struct json_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail);

/* A parsed text to walk through, for content that no table of fields describes. Read only;
 * everything reached from a root is valid until the root is closed. */
struct json_view;
/* The text must hold one object, without duplicates, nested no deeper than 32 levels; else NULL and
 * a sentence in *error that repeats no value. */
struct json_view *json_view_open(struct text json, struct buffer *error);
void json_view_close(struct json_view **root);
bool json_view_is_object(const struct json_view *view);
bool json_view_is_array(const struct json_view *view);
bool json_view_is_null(const struct json_view *view);
/* False if the value is of another type. Texts may hold anything but NUL. */
bool json_view_int(const struct json_view *view, int64_t *ret);
bool json_view_bool(const struct json_view *view, bool *ret);
bool json_view_text(const struct json_view *view, struct text *ret);
/* Members of an object, items of an array, else 0. */
size_t json_view_count(const struct json_view *view);
const struct json_view *json_view_item(const struct json_view *array, size_t index);
/* The member of this name; NULL if there is none, or no object. */
const struct json_view *json_view_member(const struct json_view *object, const char *name);
/* The next member in the order of the text, from {0} on; false after the last one, and for values
 * that are no object. */
struct json_member {
    const char *name;
    const struct json_view *value;
    void *at; /* json_view_next()'s own */
};
bool json_view_next(const struct json_view *object, struct json_member *member);
/* Appends the value as compact JSON. */
void json_view_print(const struct json_view *view, struct buffer *out);

/* Appends the target with a merge patch applied (RFC 7396), compact JSON; members keep their order,
 * new ones follow. Both must be objects, an empty target stands for {}. On failure returns false
 * and adds a sentence to *error as json_view_open() does. Bounding the size is the caller's. */
bool json_merge_patch(struct text target, struct text patch, struct buffer *out,
                      struct buffer *error);
