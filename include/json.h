/* JSON: a small writer for the hot path, and table-driven reading of request bodies (jansson).
 *
 * The writer appends to a buffer and keeps no state but "is a comma due"; the caller balances
 * braces. The reader turns a body into a struct, row by row, and says exactly what is wrong.
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
/* `"name":` - the name is a literal that needs no escaping. */
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
/* The escaped inside of a string, without quotes. */
void json_escape(struct buffer *out, struct text value);

/* One member of a body. Rows describe a struct whose fields lie at `offset`. */
enum json_kind {
    JSON_TEXT,       /* struct text: UTF-8 without control characters, minimum..maximum bytes */
    JSON_BOOLEAN,    /* bool */
    JSON_INT,        /* int64_t, minimum..maximum */
    JSON_TEXT_ARRAY, /* struct json_texts: at most `maximum` texts of 1..128 bytes */
    JSON_MEMBERS,    /* read by `members` into the struct at offset */
    JSON_ANY_OBJECT  /* struct text: any object, printed compactly, at most `maximum` bytes */
};

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
};

/* Reads a body of one object into *target, which the caller has zeroed. Everything read lives in
 * the arena. Unknown members, duplicates, wrong types, invalid UTF-8 and bytes behind the object
 * are refused. On failure returns false and sets *detail to a sentence that names the member, what
 * it holds is never repeated when it may be a secret. An empty body reads as {}. */
bool json_read(struct text body, const struct json_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail);
