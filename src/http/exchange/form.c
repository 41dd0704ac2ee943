/* Cuts a form into members, decodes them, and stores the known ones. */
#include "form.h"

#include <assert.h>
#include <string.h>

#include "clean.h"
#include "router.h"

/* The form being read. */
struct form {
    const struct form_field *fields;
    size_t count;
    void *target;
    struct arena *arena;
    struct text *detail;
    struct text names[FORM_MEMBERS_MAX]; /* of the members so far */
    size_t name_count;
};

static struct text decode_part(struct form *form, struct text encoded)
{
    return router_decode(arena_alloc(form->arena, encoded.length + 1), encoded, true);
}

/* The name as a sentence may show it. */
static struct text show_name(struct form *form, struct text name)
{
    enum { LONGEST_NAME = 64 };
    struct text shown = clean_text(name, LONGEST_NAME, form->arena);
    return shown.data ? shown : TEXT("?");
}

static bool refuse_member(struct form *form, struct text name, const char *fault)
{
    struct text shown = show_name(form, name);
    *form->detail = arena_format(form->arena, "\"%.*s\" %s", (int)shown.length, shown.data, fault);
    return false;
}

static bool note_name(struct form *form, struct text name)
{
    if (form->name_count == FORM_MEMBERS_MAX) {
        *form->detail =
            arena_format(form->arena, "The form may have at most %d members", FORM_MEMBERS_MAX);
        return false;
    }
    for (size_t i = 0; i < form->name_count; i++)
        if (text_equal(form->names[i], name))
            return refuse_member(form, name, "came twice");
    form->names[form->name_count++] = name;
    return true;
}

static const struct form_field *find_member(const struct form *form, struct text name)
{
    for (size_t i = 0; i < form->count; i++)
        if (text_equal(text_of(form->fields[i].name), name))
            return &form->fields[i];
    return NULL;
}

static bool store_member(struct form *form, const struct form_field *field, struct text value)
{
    struct text *target = (struct text *)((char *)form->target + field->offset);
    assert(target->data == NULL);
    if (field->kind == FORM_TEXT && !text_is_clean_utf8(value))
        return refuse_member(form, text_of(field->name),
                             "must be UTF-8 without control characters");
    if (field->kind == FORM_TEXT && value.length > field->maximum) {
        struct text fault = arena_format(form->arena, "may have at most %zu bytes", field->maximum);
        return refuse_member(form, text_of(field->name), fault.data);
    }
    if (field->kind == FORM_DECORATION)
        value = clean_text(value, field->maximum, form->arena);
    if (value.length > 0)
        *target = value;
    return true;
}

static bool read_member(struct form *form, struct text member)
{
    const char *equals = memchr(member.data, '=', member.length);
    size_t length = equals ? (size_t)(equals - member.data) : member.length;
    struct text name = decode_part(form, (struct text){member.data, length});
    struct text value = TEXT("");
    if (equals)
        value = decode_part(form, (struct text){equals + 1, member.length - length - 1});
    if (!name.data || !value.data)
        return refuse_member(form, name, "has a broken percent-encoding");
    const struct form_field *field = find_member(form, name);
    return note_name(form, name) && (!field || store_member(form, field, value));
}

bool form_read(struct text body, const struct form_field *fields, size_t count, void *target,
               struct arena *arena, struct text *detail)
{
    struct form *form = arena_zalloc(arena, sizeof(*form));
    *form = (struct form){fields, count, target, arena, detail, {{0}}, 0};
    while (body.length > 0) {
        struct text member = text_take(&body, '&');
        if (member.length > 0 && !read_member(form, member))
            return false;
    }
    return true;
}
