/* Reads a policy's JSON member by member: each is known, of its type, within its bounds. A fault is
 * a sentence with name, value and the allowed values. In a stored text it is skipped, since another
 * version of sessiond may have written it. */
#include "policy_private.h"

#include <inttypes.h>
#include <string.h>

enum { VALUE_SHOWN = 60, NAME_SHOWN = 40 };

struct reader {
    enum policy_care care;
    struct arena *arena;
    struct buffer *error;
};

/* An object that is being read. */
struct level {
    const char *shown;              /* prefix of its members' names: "", "bind.", "roles.admin." */
    const char *path;               /* the same in rows: "", "bind.", "" */
    bool named;                     /* of a role or device type: only members that these may have */
    const struct json_view *stored; /* the object that it patches, or NULL */
    uint64_t *set;
    int64_t *values;
};

/* --- messages --- */

static const char *quoted(const struct reader *reader, const char *name)
{
    char *out = arena_alloc(reader->arena, NAME_SHOWN + 4);
    log_quote(out, NAME_SHOWN + 1, text_of(name));
    if (strlen(name) > NAME_SHOWN)
        memcpy(out + NAME_SHOWN, "...", 4);
    return out;
}

/* ", not 17"; a long value is cut between characters. */
static void add_refused_value(struct buffer *out, const struct json_view *value)
{
    SCOPED(buffer_free) struct buffer printed = {0};
    json_view_print(value, &printed);
    struct text shown = text_cut(buffer_text(&printed), VALUE_SHOWN);
    buffer_addf(out, ", not %.*s%s", (int)shown.length, shown.data,
                shown.length < printed.length ? "..." : "");
}

static void add_words(struct buffer *out, const char *before, const char *words)
{
    struct text word;
    for (unsigned i = 0; (word = text_word_at(words, i)).data != NULL; i++) {
        buffer_addf(out, "%s \"%.*s\"", before, (int)word.length, word.data);
        before = ",";
    }
}

static void add_allowed(struct buffer *out, const struct policy_row *row)
{
    const struct conf_bounds bounds = conf_bounds(row->option);
    static const char *const units[] = {
        [POLICY_SECONDS] = " of seconds", [POLICY_INT] = "", [POLICY_BYTES] = " of bytes"};
    switch (row->kind) {
    case POLICY_ENUM:
        add_words(out, "one of", bounds.words);
        break;
    case POLICY_FLAGS:
        add_words(out, "an array of words, each once, out of", bounds.words);
        break;
    case POLICY_BOOL:
    case POLICY_FLAG:
        buffer_add_literal(out, "true or false");
        break;
    default:
        buffer_addf(out, "a whole number%s from %" PRId64 " to %" PRId64, units[row->kind],
                    bounds.minimum, bounds.maximum);
    }
}

/* Each adds the fault to the message; true if it is to be skipped instead. */

static bool refuse_policy_value(const struct reader *reader, const struct level *level,
                                const char *name, const struct policy_row *row,
                                const struct json_view *value)
{
    bool takes_away = reader->care == POLICY_AS_PATCH && json_view_is_null(value);
    if (reader->care == POLICY_AS_STORED || takes_away)
        return true;
    buffer_addf(reader->error, "\"%s%s\" must be ", level->shown, name);
    if (row)
        add_allowed(reader->error, row);
    else
        buffer_add_literal(reader->error, "an object");
    add_refused_value(reader->error, value);
    return false;
}

static bool is_at(const struct level *level, const struct policy_row *row)
{
    return strncmp(row->path, level->path, strlen(level->path)) == 0 &&
           (!level->named || row->say == POLICY_SAY_SMALLEST || row->say == POLICY_SAY_LARGEST);
}

/* A patch may remove members that another version of sessiond has left. */
static bool refuse_name(const struct reader *reader, const struct level *level,
                        const struct json_member *member)
{
    bool takes_away =
        json_view_is_null(member->value) && json_view_member(level->stored, member->name);
    if (reader->care == POLICY_AS_STORED || takes_away)
        return true;
    buffer_addf(reader->error, "\"%s%s\" is not known; known are", level->shown,
                quoted(reader, member->name));
    struct text last = {0};
    const char *before = " ";
    for (const struct policy_row *row = policy_rows; row < policy_rows + POLICY_MEMBERS; row++) {
        const char *rest = row->path + strlen(level->path);
        struct text own = {rest, is_at(level, row) ? strcspn(rest, ".") : 0};
        if (own.length == 0 || text_equal(own, last))
            continue;
        buffer_addf(reader->error, "%s%.*s", before, (int)own.length, own.data);
        before = ", ";
        last = own;
    }
    if (level->path[0] == '\0' && !level->named)
        buffer_add_literal(reader->error, ", roles, device_types");
    return false;
}

/* --- values --- */

static bool read_flags(const char *words, const struct json_view *array, int64_t *ret)
{
    int64_t bits = 0;
    for (size_t i = 0; i < json_view_count(array); i++) {
        struct text word;
        int index =
            json_view_text(json_view_item(array, i), &word) ? text_word_find(words, word) : -1;
        if (index < 0 || (bits & INT64_C(1) << index) != 0)
            return false;
        bits |= INT64_C(1) << index;
    }
    *ret = bits;
    return json_view_is_array(array);
}

static bool read_word(const char *words, const struct json_view *view, int64_t *ret)
{
    struct text word;
    int index = json_view_text(view, &word) ? text_word_find(words, word) : -1;
    *ret = index;
    return index >= 0;
}

static bool read_value(const struct policy_row *row, const struct json_view *view, int64_t *ret)
{
    const struct conf_bounds bounds = conf_bounds(row->option);
    bool truth = false;
    switch (row->kind) {
    case POLICY_ENUM:
        return read_word(bounds.words, view, ret);
    case POLICY_FLAGS:
        return read_flags(bounds.words, view, ret);
    case POLICY_BOOL:
    case POLICY_FLAG:
        if (!json_view_bool(view, &truth))
            return false;
        *ret = truth;
        return true;
    default:
        return json_view_int(view, ret) && *ret >= bounds.minimum && *ret <= bounds.maximum;
    }
}

/* --- objects --- */

/* The row of a member; with `group`, the first row inside the object of this name. Names with a dot
 * are refused: a dot would be read as a path. */
static const struct policy_row *find_member_row(const struct level *level, const char *name,
                                                bool group)
{
    size_t prefix = strlen(level->path), length = strlen(name);
    if (strchr(name, '.'))
        return NULL;
    for (const struct policy_row *row = policy_rows; row < policy_rows + POLICY_MEMBERS; row++)
        if (is_at(level, row) && strncmp(row->path + prefix, name, length) == 0 &&
            row->path[prefix + length] == (group ? '.' : '\0'))
            return row;
    return NULL;
}

static bool read_leaf(const struct reader *reader, const struct level *level,
                      const struct json_member *member, const struct policy_row *row)
{
    int64_t value;
    if (!read_value(row, member->value, &value))
        return refuse_policy_value(reader, level, member->name, row, member->value);
    level->values[row - policy_rows] = value;
    *level->set |= UINT64_C(1) << (row - policy_rows);
    return true;
}

/* An object without objects in it. */
static bool read_leaves(const struct reader *reader, const struct level *level,
                        const struct json_view *object)
{
    struct json_member member = {0};
    bool good = true;
    while (good && json_view_next(object, &member)) {
        const struct policy_row *row = find_member_row(level, member.name, false);
        good = row ? read_leaf(reader, level, &member, row) : refuse_name(reader, level, &member);
    }
    return good;
}

static bool read_group(const struct reader *reader, const struct level *outer,
                       const struct json_member *member)
{
    if (!json_view_is_object(member->value))
        return refuse_policy_value(reader, outer, member->name, NULL, member->value);
    const char *path = arena_format(reader->arena, "%s.", member->name).data;
    const struct level level = {.shown = path,
                                .path = path,
                                .stored = json_view_member(outer->stored, member->name),
                                .set = outer->set,
                                .values = outer->values};
    return read_leaves(reader, &level, member->value);
}

/* --- roles and device types --- */

static bool read_named_one(const struct reader *reader, const struct level *parent,
                           const struct json_member *member, struct policy_named *named)
{
    struct text name = text_of(member->name);
    if (!json_view_is_object(member->value))
        return refuse_policy_value(reader, parent, quoted(reader, member->name), NULL,
                                   member->value);
    if (name.length < 1 || name.length > POLICY_NAME_MAX || !text_is_clean_utf8(name)) {
        if (reader->care == POLICY_AS_STORED)
            return true;
        buffer_addf(reader->error, "\"%s%s\": a name has 1 to %d bytes without control characters",
                    parent->shown, quoted(reader, member->name), POLICY_NAME_MAX);
        return false;
    }
    struct policy_override *one = &named->items[named->count++];
    const char *shown =
        arena_format(reader->arena, "%s%s.", parent->shown, quoted(reader, member->name)).data;
    const struct level level = {.shown = shown,
                                .path = "",
                                .stored = json_view_member(parent->stored, member->name),
                                .named = true,
                                .set = &one->set,
                                .values = one->values};
    one->name = arena_copy(reader->arena, name);
    return read_leaves(reader, &level, member->value);
}

static bool read_named(const struct reader *reader, const struct level *level,
                       const struct json_member *member, struct policy_named *named)
{
    if (!json_view_is_object(member->value))
        return refuse_policy_value(reader, level, member->name, NULL, member->value);
    size_t count = json_view_count(member->value);
    if (count > POLICY_NAMED_MAX) {
        buffer_addf(reader->error, "\"%s\" must have at most %d members, not %zu", member->name,
                    POLICY_NAMED_MAX, count);
        return false;
    }
    const char *shown = arena_format(reader->arena, "%s.", member->name).data;
    const struct level parent = {
        .shown = shown, .path = "", .stored = json_view_member(level->stored, member->name)};
    struct json_member one = {0};
    bool good = true;
    named->items = arena_zalloc(reader->arena, count * sizeof(named->items[0]));
    while (good && json_view_next(member->value, &one))
        good = read_named_one(reader, &parent, &one, named);
    return good;
}

bool policy_read(const struct json_view *root, const struct json_view *stored,
                 enum policy_care care, struct arena *arena, struct policy_draft *draft,
                 struct buffer *error)
{
    const struct reader reader = {care, arena, error};
    const struct level level = {.shown = "",
                                .path = "",
                                .stored = stored,
                                .set = &draft->tenant.set,
                                .values = draft->tenant.values};
    struct json_member member = {0};
    bool good = true;
    while (good && json_view_next(root, &member)) {
        const struct policy_row *row = find_member_row(&level, member.name, false);
        if (row)
            good = read_leaf(&reader, &level, &member, row);
        else if (find_member_row(&level, member.name, true))
            good = read_group(&reader, &level, &member);
        else if (strcmp(member.name, "roles") == 0)
            good = read_named(&reader, &level, &member, &draft->roles);
        else if (strcmp(member.name, "device_types") == 0)
            good = read_named(&reader, &level, &member, &draft->types);
        else
            good = refuse_name(&reader, &level, &member);
    }
    return good;
}
