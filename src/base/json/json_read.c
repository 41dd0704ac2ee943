/* Request bodies: jansson parses, a table lists the allowed members. Messages name members and
 * never repeat values, which may be tokens. */
#include <inttypes.h>
#include <string.h>

#include "clean.h"
#include "credential.h"
#include "json_parse.h"

enum { LONGEST_ITEM = 128 };

/* The context of one call. */
struct reader {
    struct arena *arena;
    struct text *detail;
};

/* --- messages --- */

/* Says what is wrong with one member; always false, so that a check can return it. */
static bool complain_member(const struct reader *reader, const char *prefix, const char *name,
                            struct text what)
{
    *reader->detail =
        arena_format(reader->arena, "\"%s%s\" %.*s", prefix, name, (int)what.length, what.data);
    return false;
}

static bool complain_unknown(const struct reader *reader, const char *prefix, const char *name,
                             const struct json_field *fields, size_t count)
{
    char quoted[JSON_NAME_SHOWN + 4];
    struct text what = TEXT("is not known here; this call takes no members");
    for (size_t i = 0; i < count; i++) {
        what = i == 0
                   ? arena_format(reader->arena, "is not known here; known are: %s", fields[i].name)
                   : arena_format(reader->arena, "%s, %s", what.data, fields[i].name);
    }
    return complain_member(reader, prefix, json_quote_name(quoted, name), what);
}

/* --- one function for each kind of member --- */

typedef bool member_reader(const struct reader *reader, const char *prefix,
                           const struct json_field *field, const json_t *value, void *target);

static bool is_text(const json_t *value, struct text *ret)
{
    if (!json_is_string(value))
        return false;
    *ret = (struct text){json_string_value(value), json_string_length(value)};
    return true;
}

static bool text_fits(const json_t *value, int64_t minimum, int64_t maximum, struct text *ret)
{
    return is_text(value, ret) && (int64_t)ret->length >= minimum &&
           (int64_t)ret->length <= maximum && text_is_clean_utf8(*ret);
}

/* "a string of 1 to 128 bytes without…", of 16 bytes, or of no length where only the body is
 * bounded; or what the row says. */
static struct text text_words(const struct reader *reader, const struct json_field *field)
{
    if (field->meaning)
        return text_of(field->meaning);
    if (field->maximum >= INT32_MAX)
        return TEXT("a string without control characters");
    struct text lengths = field->minimum == field->maximum
                              ? arena_format(reader->arena, "%" PRId64, field->minimum)
                              : arena_format(reader->arena, "%" PRId64 " to %" PRId64,
                                             field->minimum, field->maximum);
    return arena_format(reader->arena, "a string of %s bytes without control characters",
                        lengths.data);
}

static bool read_text(const struct reader *reader, const char *prefix,
                      const struct json_field *field, const json_t *value, void *target)
{
    struct text text;
    if (!text_fits(value, field->minimum, field->maximum, &text)) {
        return complain_member(
            reader, prefix, field->name,
            arena_format(reader->arena, "must be %s", text_words(reader, field).data));
    }
    if (field->kind == JSON_ID && credential_begins(text))
        return complain_member(reader, prefix, field->name,
                               TEXT("must be an id, not a credential"));
    *(struct text *)target = arena_copy(reader->arena, text);
    return true;
}

static bool read_any_text(const struct reader *reader, const char *prefix,
                          const struct json_field *field, const json_t *value, void *target)
{
    struct text text;
    if (!is_text(value, &text)) {
        struct text words = text_of(field->meaning ? field->meaning : "a string");
        return complain_member(reader, prefix, field->name,
                               arena_format(reader->arena, "must be %s", words.data));
    }
    *(struct text *)target = arena_copy(reader->arena, text);
    return true;
}

static bool read_decoration(const struct reader *reader, const char *prefix,
                            const struct json_field *field, const json_t *value, void *target)
{
    struct text *text = target;
    if (!read_any_text(reader, prefix, field, value, text))
        return false;
    *text = clean_text(*text, (size_t)field->maximum, reader->arena);
    if (!text->data && field->minimum == 0)
        *text = TEXT("");
    return true;
}

static bool is_boolean(const struct reader *reader, const char *prefix,
                       const struct json_field *field, const json_t *value)
{
    return json_is_boolean(value) ||
           complain_member(reader, prefix, field->name, TEXT("must be true or false"));
}

static bool read_boolean(const struct reader *reader, const char *prefix,
                         const struct json_field *field, const json_t *value, void *target)
{
    if (!is_boolean(reader, prefix, field, value))
        return false;
    *(bool *)target = json_is_true(value);
    return true;
}

static bool read_tristate(const struct reader *reader, const char *prefix,
                          const struct json_field *field, const json_t *value, void *target)
{
    if (!is_boolean(reader, prefix, field, value))
        return false;
    *(enum tristate *)target = json_is_true(value) ? TRISTATE_TRUE : TRISTATE_FALSE;
    return true;
}

static bool read_int(const struct reader *reader, const char *prefix,
                     const struct json_field *field, const json_t *value, void *target)
{
    if (!json_is_integer(value) || json_integer_value(value) < field->minimum ||
        json_integer_value(value) > field->maximum) {
        struct text bounds = arena_format(reader->arena, "an integer from %" PRId64 " to %" PRId64,
                                          field->minimum, field->maximum);
        return complain_member(reader, prefix, field->name,
                               arena_format(reader->arena, "must be %s",
                                            field->meaning ? field->meaning : bounds.data));
    }
    *(int64_t *)target = json_integer_value(value);
    return true;
}

static bool read_text_array(const struct reader *reader, const char *prefix,
                            const struct json_field *field, const json_t *value, void *target)
{
    size_t count = json_array_size(value);
    bool fits = json_is_array(value) && (int64_t)count <= field->maximum;
    struct text *items = fits ? arena_alloc(reader->arena, count * sizeof(*items)) : NULL;
    for (size_t i = 0; fits && i < count; i++) {
        fits = text_fits(json_array_get(value, i), 1, LONGEST_ITEM, &items[i]);
        items[i] = fits ? arena_copy(reader->arena, items[i]) : (struct text){0};
    }
    if (!fits) {
        return complain_member(reader, prefix, field->name,
                               arena_format(reader->arena,
                                            "must be an array of at most %" PRId64
                                            " strings of 1 to %d bytes without control characters",
                                            field->maximum, LONGEST_ITEM));
    }
    *(struct json_texts *)target = (struct json_texts){items, count};
    return true;
}

static bool read_known_members(const struct reader *reader, const char *prefix,
                               const json_t *object, const struct json_field *fields, size_t count,
                               void *target);

static bool read_members(const struct reader *reader, const char *prefix,
                         const struct json_field *field, const json_t *value, void *target)
{
    if (!json_is_object(value))
        return complain_member(reader, prefix, field->name, TEXT("must be an object"));
    struct text inner = arena_format(reader->arena, "%s%s.", prefix, field->name);
    return read_known_members(reader, inner.data, value, field->members, field->member_count,
                              target);
}

static bool read_any_object(const struct reader *reader, const char *prefix,
                            const struct json_field *field, const json_t *value, void *target)
{
    SCOPED(buffer_free) struct buffer printed = {0};
    struct json_writer writer = {.out = &printed};
    json_print_value(&writer, value);
    bool fits = json_is_object(value) && (int64_t)printed.length <= field->maximum;
    if (fits)
        *(struct text *)target = arena_copy(reader->arena, buffer_text(&printed));
    return fits ||
           complain_member(reader, prefix, field->name,
                           arena_format(reader->arena,
                                        "must be an object of at most %" PRId64 " bytes of JSON",
                                        field->maximum));
}

static member_reader *const readers[] = {
    [JSON_TEXT] = read_text,         [JSON_ID] = read_text,
    [JSON_ANY_TEXT] = read_any_text, [JSON_DECORATION] = read_decoration,
    [JSON_BOOLEAN] = read_boolean,   [JSON_TRISTATE] = read_tristate,
    [JSON_INT] = read_int,           [JSON_TEXT_ARRAY] = read_text_array,
    [JSON_MEMBERS] = read_members,   [JSON_ANY_OBJECT] = read_any_object,
};

/* --- objects --- */

static const struct json_field *find_field(const struct json_field *fields, size_t count,
                                           const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

/* Unknown members come first: a typo explains itself better than the member it leaves missing. */
static bool knows_all_members(const struct reader *reader, const char *prefix, const json_t *object,
                              const struct json_field *fields, size_t count)
{
    json_t *iterated = json_iterable(object);
    for (void *at = json_object_iter(iterated); at; at = json_object_iter_next(iterated, at)) {
        const char *name = json_object_iter_key(at);
        if (!find_field(fields, count, name))
            return complain_unknown(reader, prefix, name, fields, count);
    }
    return true;
}

static bool read_known_members(const struct reader *reader, const char *prefix,
                               const json_t *object, const struct json_field *fields, size_t count,
                               void *target)
{
    if (!knows_all_members(reader, prefix, object, fields, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct json_field *field = &fields[i];
        const json_t *value = json_object_get(object, field->name);
        if (json_is_null(value) && !field->required)
            value = NULL;
        if (!value && field->required)
            return complain_member(reader, prefix, field->name, TEXT("is missing"));
        if (value &&
            !readers[field->kind](reader, prefix, field, value, (char *)target + field->offset))
            return false;
    }
    return true;
}

static struct text without_blanks(struct text body)
{
    static const char blanks[] = " \t\r\n";
    while (body.length > 0 && memchr(blanks, body.data[0], sizeof(blanks) - 1))
        body = (struct text){body.data + 1, body.length - 1};
    while (body.length > 0 && memchr(blanks, body.data[body.length - 1], sizeof(blanks) - 1))
        body.length--;
    return body;
}

static bool demands_members(const struct json_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fields[i].required)
            return true;
    return false;
}

/* Clients without content send nothing, blanks or, where that is allowed, `null`. */
static bool says_nothing(struct text body, const struct json_field *fields, size_t count)
{
    body = without_blanks(body);
    return body.length == 0 || (text_equal(body, TEXT("null")) && !demands_members(fields, count));
}

bool json_read(struct text body, const struct json_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail)
{
    const struct reader reader = {arena, detail};
    SCOPED(buffer_free) struct buffer error = {0};
    json_auto_t *root =
        json_parse_object(says_nothing(body, fields, count) ? TEXT("{}") : body, &error);
    if (root)
        return read_known_members(&reader, "", root, fields, count, target);
    *detail = arena_copy(arena, buffer_text(&error));
    return false;
}
