/* Lists of changes, and the members in which JSON objects differ. */
#include "changes.h"

#include "json_parse.h"

enum { NAME_SHOWN = 128, VALUE_SHOWN = 96 };

static bool begin_string(struct changes *changes, struct text name)
{
    if (++changes->count > CHANGES_MAX)
        return false;
    if (changes->out->length > 0)
        buffer_add_char(changes->out, ',');
    buffer_add_char(changes->out, '"');
    json_escape(changes->out, text_cut(name, NAME_SHOWN));
    return true;
}

static void add_changed_value(struct changes *changes, struct text value)
{
    json_escape(changes->out, value.data ? text_cut(value, VALUE_SHOWN) : TEXT("none"));
}

void changes_add(struct changes *changes, struct text name, struct text before, struct text after)
{
    if (!begin_string(changes, name))
        return;
    buffer_add_literal(changes->out, ": ");
    add_changed_value(changes, before);
    buffer_add_literal(changes->out, " -> ");
    add_changed_value(changes, after);
    buffer_add_char(changes->out, '"');
}

void changes_add_hidden(struct changes *changes, struct text name)
{
    if (begin_string(changes, name))
        buffer_add_literal(changes->out, ": changed\"");
}

void changes_end(struct changes *changes)
{
    if (changes->count > CHANGES_MAX)
        buffer_addf(changes->out, ",\"%zu more\"", changes->count - CHANGES_MAX);
}

/* --- members of JSON objects --- */

static void compare_values(struct changes *changes, struct buffer *path, const json_t *before,
                           const json_t *after);

static void compare_member(struct changes *changes, struct buffer *path, const char *name,
                           const json_t *before, const json_t *after)
{
    size_t length = path->length;
    if (length > 0)
        buffer_add_char(path, '.');
    buffer_add_text(path, text_of(name));
    compare_values(changes, path, before, after);
    path->length = length;
}

static void compare_objects(struct changes *changes, struct buffer *path, const json_t *before,
                            const json_t *after)
{
    json_t *old = json_iterable(before), *new = json_iterable(after);
    for (void *at = json_object_iter(old); at; at = json_object_iter_next(old, at)) {
        const char *name = json_object_iter_key(at);
        compare_member(changes, path, name, json_object_iter_value(at),
                       json_object_get(after, name));
    }
    for (void *at = json_object_iter(new); at; at = json_object_iter_next(new, at)) {
        const char *name = json_object_iter_key(at);
        if (!json_object_get(before, name))
            compare_member(changes, path, name, NULL, json_object_iter_value(at));
    }
}

static struct text print_value(const json_t *value, struct buffer *out)
{
    struct json_writer writer = {.out = out};
    if (!value)
        return (struct text){0};
    json_print_value(&writer, value);
    return buffer_text(out);
}

/* Nesting is bounded where the text is read. */
static void compare_values(struct changes *changes, struct buffer *path, const json_t *before,
                           const json_t *after)
{
    if (json_equal(before, after))
        return;
    if ((!before || json_is_object(before)) && (!after || json_is_object(after))) {
        compare_objects(changes, path, before, after);
        return;
    }
    struct buffer printed[2] = {{0}, {0}};
    changes_add(changes, buffer_text(path), print_value(before, &printed[0]),
                print_value(after, &printed[1]));
    buffer_free(&printed[0]);
    buffer_free(&printed[1]);
}

void changes_add_json(struct changes *changes, struct text before, struct text after)
{
    SCOPED(buffer_free) struct buffer path = {0}, ignored = {0};
    json_t *left = json_parse_object(before, &ignored);
    json_t *right = json_parse_object(after, &ignored);
    compare_values(changes, &path, left, right);
    json_decref(left);
    json_decref(right);
}
