/* Documents: parsed, packed, reference-counted, printed; and the members that a tenant's own keys
 * may not change. */
#include "policy_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Bits by enum policy_member. */
static const uint64_t of_platform = 0
#define POLICY_MEMBER(kind, path, field, option, bit, say) \
    | (uint64_t)(POLICY_SAY_##say == POLICY_SAY_PLATFORM) << POLICY_ID_##field
#include "tbl/policy.h"
    ;
#define ALL_MEMBERS (UINT64_MAX >> (64 - POLICY_MEMBERS))

/* --- packing --- */

/* Takes the next `size` bytes of a document's memory. */
static void *take_space(char **free_space, size_t size)
{
    char *taken = *free_space;
    *free_space += size;
    return taken;
}

static struct text pack_text(char **free_space, struct text text)
{
    char *copy = take_space(free_space, text.length);
    memcpy(copy, text.data, text.length);
    return (struct text){copy, text.length};
}

static size_t names_length(const struct policy_named *named)
{
    size_t length = 0;
    for (size_t i = 0; i < named->count; i++)
        length += named->items[i].name.length;
    return length;
}

static int compare_overrides(const void *a, const void *b)
{
    const struct policy_override *left = a, *right = b;
    return policy_compare_names(left->name, right->name);
}

static struct policy_named pack_named(char **free_space, const struct policy_named *named)
{
    size_t size = named->count * sizeof(named->items[0]);
    struct policy_named taken = {take_space(free_space, size), named->count, 0};
    if (named->count > 0) {
        memcpy(taken.items, named->items, size);
        qsort(taken.items, taken.count, sizeof(taken.items[0]), compare_overrides);
    }
    return taken;
}

static void pack_names(char **free_space, struct policy_named *named)
{
    for (size_t i = 0; i < named->count; i++) {
        named->items[i].name = pack_text(free_space, named->items[i].name);
        named->hints |= policy_name_hint(named->items[i].name);
    }
}

static struct policy_document *pack(const struct policy_draft *draft, struct text json)
{
    size_t value_count = (size_t)__builtin_popcountll(draft->tenant.set);
    size_t bytes = sizeof(struct policy_document) + value_count * sizeof(int64_t) +
                   (draft->roles.count + draft->types.count) * sizeof(struct policy_override) +
                   names_length(&draft->roles) + names_length(&draft->types) + json.length;
    struct policy_document *document = xmalloc(bytes);
    char *free_space = (char *)(document + 1);
    int64_t *values = take_space(&free_space, value_count * sizeof(int64_t));
    *document =
        (struct policy_document){.set = draft->tenant.set, .values = values, .bytes = bytes};
    atomic_init(&document->references, 1);
    for (uint64_t left = draft->tenant.set; left != 0; left &= left - 1)
        *values++ = draft->tenant.values[__builtin_ctzll(left)];
    /* Everything with alignment goes before the texts. */
    document->roles = pack_named(&free_space, &draft->roles);
    document->types = pack_named(&free_space, &draft->types);
    pack_names(&free_space, &document->roles);
    pack_names(&free_space, &document->types);
    document->json = pack_text(&free_space, json);
    assert(free_space == (char *)document + bytes);
    return document;
}

/* Roles are looked up as session objects have them, see policy_of_session(). */
static void escape_names(struct arena *arena, const struct policy_named *named)
{
    SCOPED(buffer_free) struct buffer escaped = {0};
    for (size_t i = 0; i < named->count; i++) {
        escaped.length = 0;
        json_escape(&escaped, named->items[i].name);
        named->items[i].name = arena_copy(arena, buffer_text(&escaped));
    }
}

static struct policy_document *make(const struct policy_draft *draft, const struct json_view *root,
                                    struct arena *arena)
{
    SCOPED(buffer_free) struct buffer json = {0};
    json_view_print(root, &json);
    escape_names(arena, &draft->roles);
    return pack(draft, buffer_text(&json));
}

/* With `conf` NULL the text was stored before and contradictions are not checked. */
static struct policy_document *parse_policy(const struct conf *conf, struct text json,
                                            struct buffer *error)
{
    struct policy_document *document = NULL;
    SCOPED(arena_free) struct arena arena = {0};
    struct policy_draft draft = {.tenant = {.set = 0}};
    SCOPED(json_view_close) struct json_view *root = json_view_open(json, error);
    if (root &&
        policy_read(root, NULL, conf ? POLICY_AS_GIVEN : POLICY_AS_STORED, &arena, &draft, error) &&
        (!conf || policy_check(conf, &draft, error)))
        document = make(&draft, root, &arena);
    return document;
}

struct policy_document *policy_parse(const struct conf *conf, struct text json,
                                     struct buffer *error)
{
    assert(conf != NULL);
    return parse_policy(conf, json, error);
}

struct policy_document *policy_restore(struct text json, struct buffer *error)
{
    return parse_policy(NULL, json, error);
}

/* Members that a patch removes leave no trace in the result, so their names are checked here. */
static bool is_patch(struct text stored, struct text patch, struct buffer *error)
{
    SCOPED(arena_free) struct arena arena = {0};
    struct policy_draft draft = {.tenant = {.set = 0}};
    SCOPED(json_view_close) struct json_view *present = json_view_open(stored, error);
    SCOPED(json_view_close) struct json_view *root = present ? json_view_open(patch, error) : NULL;
    return root && policy_read(root, present, POLICY_AS_PATCH, &arena, &draft, error);
}

struct policy_document *policy_patch(const struct conf *conf, const struct policy_document *present,
                                     struct text patch, struct buffer *error)
{
    assert(conf != NULL);
    struct policy_document *document = NULL;
    SCOPED(buffer_free) struct buffer patched = {0};
    if (is_patch(policy_json(present), patch, error) &&
        json_merge_patch(policy_json(present), patch, &patched, error))
        document = parse_policy(conf, buffer_text(&patched), error);
    return document;
}

struct policy_document *policy_ref(struct policy_document *document)
{
    if (document)
        atomic_fetch_add_explicit(&document->references, 1, memory_order_relaxed);
    return document;
}

void policy_unref(struct policy_document **document)
{
    struct policy_document *given = *document;
    *document = NULL;
    if (given && atomic_fetch_sub_explicit(&given->references, 1, memory_order_acq_rel) == 1)
        free(given);
}

struct text policy_json(const struct policy_document *document)
{
    return document ? document->json : TEXT("{}");
}

size_t policy_bytes(const struct policy_document *document)
{
    return document ? document->bytes : 0;
}

/* --- printing --- */

/* Opens and closes objects on the way from one path to the next; NULL: the end. */
static void enter_group(struct json_writer *writer, const char *from, const char *to)
{
    const char *dot = strchr(from, '.'), *next = to ? strchr(to, '.') : NULL;
    size_t length = dot ? (size_t)(dot - from) : 0;
    bool same = dot && next && (size_t)(next - to) == length && memcmp(from, to, length) == 0;
    if (same)
        return;
    if (dot)
        json_close_object(writer);
    if (next) {
        char name[32];
        *(char *)mempcpy(name, to, (size_t)(next - to)) = '\0';
        json_member_object(writer, name);
    }
}

/* Prints the members of these bits. */
static void print_members(struct json_writer *writer, struct policy *policy, uint64_t set)
{
    const char *before = "";
    for (uint64_t left = set; left != 0; left &= left - 1) {
        enum policy_member member = (enum policy_member)__builtin_ctzll(left);
        const char *path = policy_rows[member].path, *dot = strchr(path, '.');
        enter_group(writer, before, path);
        json_name(writer, dot ? dot + 1 : path);
        policy_print_value(writer, member, *policy_value(policy, member));
        before = path;
    }
    enter_group(writer, before, NULL);
}

/* A name that is no literal; a role's is escaped already. */
static void print_name(struct json_writer *writer, struct text name, bool escaped)
{
    SCOPED(buffer_free) struct buffer inside = {0};
    buffer_add_char(&inside, '"');
    if (escaped)
        buffer_add_text(&inside, name);
    else
        json_escape(&inside, name);
    buffer_add_literal(&inside, "\":");
    json_raw(writer, buffer_text(&inside));
    writer->comma = false;
}

static void print_named(struct json_writer *writer, const char *list,
                        const struct policy_named *named, bool escaped)
{
    json_member_object(writer, list);
    for (size_t i = 0; i < named->count; i++) {
        const struct policy_override *one = &named->items[i];
        print_name(writer, one->name, escaped);
        json_open_object(writer);
        for (uint64_t left = one->set; left != 0; left &= left - 1) {
            enum policy_member member = (enum policy_member)__builtin_ctzll(left);
            json_name(writer, policy_rows[member].path);
            policy_print_value(writer, member, one->values[member]);
        }
        json_close_object(writer);
    }
    json_close_object(writer);
}

void policy_print(const struct conf *conf, const struct policy_document *document,
                  struct buffer *out)
{
    static const struct policy_named none;
    struct json_writer writer = {.out = out};
    struct policy policy;
    policy_of_tenant(conf, document, &policy);
    json_open_object(&writer);
    print_members(&writer, &policy, ALL_MEMBERS);
    print_named(&writer, "roles", document ? &document->roles : &none, true);
    print_named(&writer, "device_types", document ? &document->types : &none, false);
    json_close_object(&writer);
}

/* --- members of the platform --- */

static void refuse_change(enum policy_member member, struct policy *now, struct policy *then,
                          struct buffer *error)
{
    struct json_writer writer = {.out = error};
    buffer_addf(error,
                "\"%s\" belongs to the platform: only a key of all tenants can change it from ",
                policy_rows[member].path);
    policy_print_value(&writer, member, *policy_value(now, member));
    buffer_add_literal(error, " to ");
    writer.comma = false;
    policy_print_value(&writer, member, *policy_value(then, member));
}

/* A document with these members set, and the roles and device types of another. */
static struct policy_document *make_with_members(const struct policy_document *other, uint64_t set,
                                                 struct policy *policy)
{
    static const struct policy_named none;
    struct policy_draft draft = {.tenant.set = set,
                                 .roles = other ? other->roles : none,
                                 .types = other ? other->types : none};
    for (unsigned i = 0; i < POLICY_MEMBERS; i++)
        draft.tenant.values[i] = *policy_value(policy, i);
    SCOPED(buffer_free) struct buffer json = {0};
    struct json_writer writer = {.out = &json};
    json_open_object(&writer);
    print_members(&writer, policy, set);
    if (draft.roles.count > 0)
        print_named(&writer, "roles", &draft.roles, true);
    if (draft.types.count > 0)
        print_named(&writer, "device_types", &draft.types, false);
    json_close_object(&writer);
    return pack(&draft, buffer_text(&json));
}

bool policy_keep_platform(const struct conf *conf, const struct policy_document *present,
                          bool whole, struct policy_document **wanted, struct buffer *error)
{
    struct policy now, then;
    uint64_t set = *wanted ? (*wanted)->set : 0;
    uint64_t kept = present ? present->set & of_platform : 0;
    policy_of_tenant(conf, present, &now);
    policy_of_tenant(conf, *wanted, &then);
    for (uint64_t left = of_platform; left != 0; left &= left - 1) {
        enum policy_member member = (enum policy_member)__builtin_ctzll(left);
        int64_t present_value = *policy_value(&now, member), *value = policy_value(&then, member);
        bool wished = !whole || (set & UINT64_C(1) << member) != 0;
        if (wished && *value != present_value) {
            refuse_change(member, &now, &then, error);
            return false;
        }
        *value = present_value;
    }
    if ((set & of_platform) == kept)
        return true;
    struct policy_document *made = make_with_members(*wanted, (set & ~of_platform) | kept, &then);
    policy_unref(wanted);
    *wanted = made;
    return true;
}
