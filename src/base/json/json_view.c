/* JSON without a table: a view to walk through, and merge patches. */
#include "json_parse.h"

/* A view is jansson's value under another name. */
static const json_t *value_of(const struct json_view *view)
{
    return (const json_t *)view;
}

static const struct json_view *view_of(const json_t *value)
{
    return (const struct json_view *)value;
}

struct json_view *json_view_open(struct text json, struct buffer *error)
{
    return (struct json_view *)json_parse_object(json, error);
}

void json_view_close(struct json_view **root)
{
    json_decref((json_t *)*root);
    *root = NULL;
}

bool json_view_is_object(const struct json_view *view)
{
    return json_is_object(value_of(view));
}

bool json_view_is_array(const struct json_view *view)
{
    return json_is_array(value_of(view));
}

bool json_view_is_null(const struct json_view *view)
{
    return json_is_null(value_of(view));
}

bool json_view_int(const struct json_view *view, int64_t *ret)
{
    if (!json_is_integer(value_of(view)))
        return false;
    *ret = json_integer_value(value_of(view));
    return true;
}

bool json_view_bool(const struct json_view *view, bool *ret)
{
    if (!json_is_boolean(value_of(view)))
        return false;
    *ret = json_is_true(value_of(view));
    return true;
}

bool json_view_text(const struct json_view *view, struct text *ret)
{
    const json_t *value = value_of(view);
    if (!json_is_string(value))
        return false;
    *ret = (struct text){json_string_value(value), json_string_length(value)};
    return true;
}

size_t json_view_count(const struct json_view *view)
{
    return json_is_object(value_of(view)) ? json_object_size(value_of(view))
                                          : json_array_size(value_of(view));
}

const struct json_view *json_view_item(const struct json_view *array, size_t index)
{
    return view_of(json_array_get(value_of(array), index));
}

const struct json_view *json_view_member(const struct json_view *object, const char *name)
{
    return view_of(json_object_get(value_of(object), name));
}

bool json_view_next(const struct json_view *object, struct json_member *member)
{
    json_t *iterated = json_iterable(value_of(object));
    member->at =
        member->at ? json_object_iter_next(iterated, member->at) : json_object_iter(iterated);
    if (!member->at)
        return false;
    member->name = json_object_iter_key(member->at);
    member->value = view_of(json_object_iter_value(member->at));
    return true;
}

void json_view_print(const struct json_view *view, struct buffer *out)
{
    struct json_writer writer = {.out = out};
    json_print_value(&writer, value_of(view));
}

/* RFC 7396 section 2. The target must be an object; recursion ends where parsing did. */
static void merge(json_t *target, const json_t *patch)
{
    json_t *iterated = json_iterable(patch);
    for (void *at = json_object_iter(iterated); at; at = json_object_iter_next(iterated, at)) {
        const char *name = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        if (json_is_null(value)) {
            json_object_del(target, name);
        } else if (!json_is_object(value)) {
            json_object_set(target, name, value);
        } else {
            if (!json_is_object(json_object_get(target, name)))
                json_object_set_new(target, name, json_object());
            merge(json_object_get(target, name), value);
        }
    }
}

bool json_merge_patch(struct text target, struct text patch, struct buffer *out,
                      struct buffer *error)
{
    json_auto_t *changed = json_parse_object(target.length > 0 ? target : TEXT("{}"), error);
    json_auto_t *change = changed ? json_parse_object(patch, error) : NULL;
    if (!change)
        return false;
    merge(changed, change);
    json_view_print(view_of(changed), out);
    return true;
}
