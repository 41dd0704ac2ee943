/* Request bodies: jansson parses, a table says what may be there. Messages name members and never
 * repeat values, which may be tokens; for the same reason everything jansson frees is wiped. */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

enum { DEEPEST = 32, LONGEST_ITEM = 128, LONGEST_NAME_SHOWN = 40 };

/* What one call carries along. */
struct reader {
    struct arena *arena;
    struct text *detail;
};

/* --- memory for jansson --- */

struct sized_block {
    size_t size;
    alignas(max_align_t) char data[];
};

static void *allocate(size_t size)
{
    struct sized_block *block = xmalloc(sizeof(*block) + size);
    block->size = size;
    return block->data;
}

static void wipe_and_release(void *memory)
{
    if (memory) {
        struct sized_block *block =
            (struct sized_block *)((char *)memory - offsetof(struct sized_block, data));
        explicit_bzero(block->data, block->size);
        free(block);
    }
}

static void install_allocator(void)
{
    json_set_alloc_funcs(allocate, wipe_and_release);
}

/* jansson's iterators take no const, but do not write. */
static json_t *iterable(const json_t *object)
{
    return (json_t *)object;
}

/* --- messages --- */

/* Says what is wrong with one member; always false, so that a check can return it. */
static bool complain(const struct reader *reader, const char *prefix, const char *name,
                     struct text what)
{
    *reader->detail =
        arena_format(reader->arena, "\"%s%s\" %.*s", prefix, name, (int)what.length, what.data);
    return false;
}

static const char *quote_name(char out[static LONGEST_NAME_SHOWN + 4], const char *name)
{
    log_quote(out, LONGEST_NAME_SHOWN + 1, text_of(name));
    if (strlen(name) > LONGEST_NAME_SHOWN)
        memcpy(out + LONGEST_NAME_SHOWN, "...", 4);
    return out;
}

static bool complain_unknown(const struct reader *reader, const char *prefix, const char *name,
                             const struct json_field *fields, size_t count)
{
    char quoted[LONGEST_NAME_SHOWN + 4];
    struct text known = TEXT("none");
    for (size_t i = 0; i < count; i++) {
        known = i == 0 ? text_of(fields[i].name)
                       : arena_format(reader->arena, "%s, %s", known.data, fields[i].name);
    }
    return complain(reader, prefix, quote_name(quoted, name),
                    arena_format(reader->arena, "is not known here; known are: %s", known.data));
}

/* Duplicate keys are the one fault that jansson knows a member for: its message ends in the key,
 * in quotes, if it is short. Every other message may end in a piece of a value. */
static bool complain_duplicate(const struct reader *reader, const json_error_t *error)
{
    const char *open = strchr(error->text, '"');
    const char *close = strrchr(error->text, '"');
    if (!open || open == close) {
        *reader->detail = TEXT("The body holds a member twice");
        return false;
    }
    char key[JSON_ERROR_TEXT_LENGTH];
    char quoted[LONGEST_NAME_SHOWN + 4];
    size_t length = (size_t)(close - open - 1);
    memcpy(key, open + 1, length);
    key[length] = '\0';
    return complain(reader, "", quote_name(quoted, key), TEXT("is there twice"));
}

static bool complain_syntax(const struct reader *reader, const json_error_t *error)
{
    static const struct {
        enum json_error_code code;
        const char *what;
    } causes[] = {
        {json_error_invalid_utf8, "is not valid UTF-8"},
        {json_error_premature_end_of_input, "is JSON that ends too early"},
        {json_error_end_of_input_expected, "has something behind its JSON object"},
        {json_error_null_character, "holds a NUL character"},
        {json_error_null_byte_in_key, "holds a NUL character in a member's name"},
        {json_error_numeric_overflow, "holds a number that is too large"},
    };
    const char *what = "is not valid JSON";
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if (causes[i].code == json_error_code(error))
            what = causes[i].what;
    *reader->detail = arena_format(reader->arena, "The body %s (line %d, column %d)", what,
                                   error->line, error->column);
    return false;
}

/* --- one function for each kind of member --- */

typedef bool member_reader(const struct reader *reader, const char *prefix,
                           const struct json_field *field, const json_t *value, void *target);

static bool text_fits(const json_t *value, int64_t minimum, int64_t maximum, struct text *ret)
{
    if (!json_is_string(value))
        return false;
    *ret = (struct text){json_string_value(value), json_string_length(value)};
    return (int64_t)ret->length >= minimum && (int64_t)ret->length <= maximum &&
           text_is_clean_utf8(*ret);
}

static bool read_text(const struct reader *reader, const char *prefix,
                      const struct json_field *field, const json_t *value, void *target)
{
    struct text text;
    if (!text_fits(value, field->minimum, field->maximum, &text)) {
        return complain(reader, prefix, field->name,
                        arena_format(reader->arena,
                                     "must be a string of %" PRId64 " to %" PRId64
                                     " bytes without control characters",
                                     field->minimum, field->maximum));
    }
    *(struct text *)target = arena_copy(reader->arena, text);
    return true;
}

static bool read_boolean(const struct reader *reader, const char *prefix,
                         const struct json_field *field, const json_t *value, void *target)
{
    if (!json_is_boolean(value))
        return complain(reader, prefix, field->name, TEXT("must be true or false"));
    *(bool *)target = json_is_true(value);
    return true;
}

static bool read_int(const struct reader *reader, const char *prefix,
                     const struct json_field *field, const json_t *value, void *target)
{
    if (!json_is_integer(value) || json_integer_value(value) < field->minimum ||
        json_integer_value(value) > field->maximum) {
        return complain(reader, prefix, field->name,
                        arena_format(reader->arena,
                                     "must be an integer from %" PRId64 " to %" PRId64,
                                     field->minimum, field->maximum));
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
        return complain(reader, prefix, field->name,
                        arena_format(reader->arena,
                                     "must be an array of at most %" PRId64
                                     " strings of 1 to %d bytes without control characters",
                                     field->maximum, LONGEST_ITEM));
    }
    *(struct json_texts *)target = (struct json_texts){items, count};
    return true;
}

static bool read_object(const struct reader *reader, const char *prefix, const json_t *object,
                        const struct json_field *fields, size_t count, void *target);

static bool read_members(const struct reader *reader, const char *prefix,
                         const struct json_field *field, const json_t *value, void *target)
{
    if (!json_is_object(value))
        return complain(reader, prefix, field->name, TEXT("must be an object"));
    struct text inner = arena_format(reader->arena, "%s%s.", prefix, field->name);
    return read_object(reader, inner.data, value, field->members, field->member_count, target);
}

/* The shortest form that reads back as the same number: what came as 0.1 goes as 0.1, where
 * jansson alone would say 0.10000000000000001. */
static void print_real(struct json_writer *writer, const json_t *value)
{
    char digits[40];
    size_t length = 0;
    for (size_t precision = 15; precision <= 17; precision++) {
        length = json_dumpb(value, digits, sizeof(digits) - 1,
                            JSON_ENCODE_ANY | JSON_REAL_PRECISION(precision));
        assert(length > 0 && length < sizeof(digits));
        digits[length] = '\0';
        if (strtod(digits, NULL) == json_real_value(value))
            break;
    }
    json_raw(writer, (struct text){digits, length});
}

static void print_value(struct json_writer *writer, const json_t *value);

static void print_object(struct json_writer *writer, const json_t *object)
{
    json_t *iterated = iterable(object);
    json_open_object(writer);
    for (void *at = json_object_iter(iterated); at; at = json_object_iter_next(iterated, at)) {
        json_text(writer, text_of(json_object_iter_key(at)));
        buffer_add_char(writer->out, ':');
        writer->comma = false;
        print_value(writer, json_object_iter_value(at));
    }
    json_close_object(writer);
}

static void print_array(struct json_writer *writer, const json_t *array)
{
    json_open_array(writer);
    for (size_t i = 0; i < json_array_size(array); i++)
        print_value(writer, json_array_get(array, i));
    json_close_array(writer);
}

/* Recursion ends at DEEPEST. */
static void print_value(struct json_writer *writer, const json_t *value)
{
    if (json_is_object(value))
        print_object(writer, value);
    else if (json_is_array(value))
        print_array(writer, value);
    else if (json_is_string(value))
        json_text(writer, (struct text){json_string_value(value), json_string_length(value)});
    else if (json_is_integer(value))
        json_int(writer, json_integer_value(value));
    else if (json_is_real(value))
        print_real(writer, value);
    else if (json_is_boolean(value))
        json_bool(writer, json_is_true(value));
    else
        json_none(writer);
}

static bool read_any_object(const struct reader *reader, const char *prefix,
                            const struct json_field *field, const json_t *value, void *target)
{
    struct buffer printed = {0};
    struct json_writer writer = {.out = &printed};
    print_value(&writer, value);
    bool fits = json_is_object(value) && (int64_t)printed.length <= field->maximum;
    if (fits)
        *(struct text *)target = arena_copy(reader->arena, buffer_text(&printed));
    buffer_free(&printed);
    return fits || complain(reader, prefix, field->name,
                            arena_format(reader->arena,
                                         "must be an object of at most %" PRId64 " bytes of JSON",
                                         field->maximum));
}

static member_reader *const readers[] = {
    [JSON_TEXT] = read_text,       [JSON_BOOLEAN] = read_boolean,
    [JSON_INT] = read_int,         [JSON_TEXT_ARRAY] = read_text_array,
    [JSON_MEMBERS] = read_members, [JSON_ANY_OBJECT] = read_any_object,
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
    json_t *iterated = iterable(object);
    for (void *at = json_object_iter(iterated); at; at = json_object_iter_next(iterated, at)) {
        const char *name = json_object_iter_key(at);
        if (!find_field(fields, count, name))
            return complain_unknown(reader, prefix, name, fields, count);
    }
    return true;
}

static bool read_object(const struct reader *reader, const char *prefix, const json_t *object,
                        const struct json_field *fields, size_t count, void *target)
{
    if (!knows_all_members(reader, prefix, object, fields, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct json_field *field = &fields[i];
        const json_t *value = json_object_get(object, field->name);
        if (!value && field->required)
            return complain(reader, prefix, field->name, TEXT("is missing"));
        if (value &&
            !readers[field->kind](reader, prefix, field, value, (char *)target + field->offset))
            return false;
    }
    return true;
}

/* jansson stops at 2,048 levels; nobody needs a tenth of that, and what is read is later walked by
 * recursion, here and at the callers'. */
static bool nests_too_deep(struct text body)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < body.length; i++) {
        char c = body.data[i];
        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEEPEST)
                return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

bool json_read(struct text body, const struct json_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_allocator);
    const struct reader reader = {arena, detail};
    if (body.length == 0)
        body = TEXT("{}");
    if (nests_too_deep(body)) {
        *detail = arena_format(arena, "The body nests deeper than %d levels", DEEPEST);
        return false;
    }
    json_error_t error;
    json_auto_t *root = json_loadb(body.data, body.length, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return json_error_code(&error) == json_error_duplicate_key
                   ? complain_duplicate(&reader, &error)
                   : complain_syntax(&reader, &error);
    }
    if (!json_is_object(root)) {
        *detail = TEXT("The body must be a JSON object");
        return false;
    }
    return read_object(&reader, "", root, fields, count, target);
}
