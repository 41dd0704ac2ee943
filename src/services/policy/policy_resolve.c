/* The policy in force: defaults, overridden by the tenant's values, overridden by those of roles
 * and device type. It runs on every validation: straight loads for the defaults, one step for each
 * set value, and a walk through the roles only if the tenant has named some. */
#include "policy_private.h"

#include <string.h>

/* Reads a default of each kind. */
#define DEFAULT_SECONDS(value, bit) (value)
#define DEFAULT_INT(value, bit)     (value)
#define DEFAULT_BYTES(value, bit)   (value)
#define DEFAULT_ENUM(value, bit)    (value)
#define DEFAULT_FLAGS(value, bit)   (value)
#define DEFAULT_BOOL(value, bit)    (value)
#define DEFAULT_FLAG(value, bit)    (((value) & (bit)) != 0)

static void take_defaults(const struct conf *conf, struct policy *ret)
{
#define POLICY_MEMBER(kind, path, field, option, bit, say) \
    ret->field = DEFAULT_##kind(conf->option, bit);
#include "tbl/policy.h"
    ret->max_devices_of_type = 0;
}

static void apply_settings(const struct policy_document *document, struct policy *ret)
{
    const int64_t *value = document->values;
    for (uint64_t left = document->set; left != 0; left &= left - 1)
        *policy_value(ret, (enum policy_member)__builtin_ctzll(left)) = *value++;
}

/* Documents have no contradictions when they are set, but several roles together may, and so may
 * later defaults. Then the time that must be shorter is lowered; so is a default beyond a bound of
 * the platform. */
static void keep_order(struct policy *policy)
{
#define POLICY_LIMIT(field, limit)     \
    if (policy->field > policy->limit) \
        policy->field = policy->limit;
#define POLICY_ORDER(shorter, longer, strictly)        \
    if (policy->shorter > policy->longer - (strictly)) \
        policy->shorter = policy->longer - (strictly);
#include "tbl/policy.h"
}

static void resolve_tenant(const struct conf *conf, const struct policy_document *document,
                           struct policy *ret)
{
    take_defaults(conf, ret);
    if (document)
        apply_settings(document, ret);
}

void policy_of_tenant(const struct conf *conf, const struct policy_document *document,
                      struct policy *ret)
{
    resolve_tenant(conf, document, ret);
    if (document)
        keep_order(ret);
}

/* --- overrides by roles and device type --- */

static const struct policy_override *find_name(const struct policy_named *named, struct text name)
{
    size_t low = 0, high = named->count;
    if (name.length == 0 || (named->hints & policy_name_hint(name)) == 0)
        return NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = policy_compare_names(name, named->items[middle].name);
        if (order == 0)
            return &named->items[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Merges one more override of these members. */
static void hear(struct policy_override *said, const struct policy_override *other,
                 uint64_t members)
{
    for (uint64_t left = other->set & members; left != 0; left &= left - 1) {
        unsigned at = (unsigned)__builtin_ctzll(left);
        bool largest = policy_rows[at].say == POLICY_SAY_LARGEST;
        bool first = (said->set & (UINT64_C(1) << at)) == 0;
        if (first || (other->values[at] > said->values[at]) == largest)
            said->values[at] = other->values[at];
    }
    said->set |= other->set & members;
}

/* The next string of an array, without its quotes, still escaped; absent after the last. */
static struct text next_string(struct text *rest)
{
    const char *end = rest->data + rest->length;
    const char *start = rest->length > 0 ? memchr(rest->data, '"', rest->length) : NULL;
    const char *at = start ? start + 1 : end;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    if (at >= end)
        return (struct text){0};
    *rest = (struct text){at + 1, (size_t)(end - at - 1)};
    return (struct text){start + 1, (size_t)(at - start - 1)};
}

static void hear_roles(const struct policy_named *roles, struct text json,
                       struct policy_override *said)
{
    struct text role;
    while ((role = next_string(&json)).data != NULL) {
        const struct policy_override *found = find_name(roles, role);
        if (found)
            hear(said, found, UINT64_MAX);
    }
}

/* A role's max_devices is the user's; a device type's is for this type alone. */
static void hear_type(const struct policy_named *types, struct text name,
                      struct policy_override *said, struct policy *ret)
{
    static const uint64_t number = UINT64_C(1) << POLICY_ID_max_devices;
    const struct policy_override *found = name.data ? find_name(types, name) : NULL;
    if (!found)
        return;
    hear(said, found, ~number);
    if ((found->set & number) != 0)
        ret->max_devices_of_type = found->values[POLICY_ID_max_devices];
}

void policy_of_session(const struct conf *conf, const struct policy_document *document,
                       struct text roles_json, struct text device_type, struct policy *ret)
{
    resolve_tenant(conf, document, ret);
    if (!document)
        return;
    struct policy_override said = {.set = 0};
    if (document->roles.count > 0)
        hear_roles(&document->roles, roles_json, &said);
    hear_type(&document->types, device_type, &said, ret);
    for (uint64_t left = said.set; left != 0; left &= left - 1) {
        unsigned at = (unsigned)__builtin_ctzll(left);
        *policy_value(ret, (enum policy_member)at) = said.values[at];
    }
    keep_order(ret);
}

/* Widens the range by the values of roles or device types for a member. */
static void widen(const struct policy_named *named, enum policy_member at, int64_t *least,
                  int64_t *most)
{
    for (size_t i = 0; i < named->count; i++) {
        if ((named->items[i].set & (UINT64_C(1) << at)) == 0)
            continue;
        int64_t value = named->items[i].values[at];
        *least = value < *least ? value : *least;
        *most = value > *most ? value : *most;
    }
}

void policy_idle_range(const struct conf *conf, const struct policy_document *document,
                       int64_t *shortest, int64_t *longest)
{
    struct policy policy;
    policy_of_tenant(conf, document, &policy);
    *shortest = *longest = policy.idle_timeout;
    if (document) {
        widen(&document->roles, POLICY_ID_idle_timeout, shortest, longest);
        widen(&document->types, POLICY_ID_idle_timeout, shortest, longest);
    }
}

int64_t policy_longest_life(const struct conf *conf, const struct policy_document *document)
{
    struct policy policy;
    policy_of_tenant(conf, document, &policy);
    int64_t shortest = policy.absolute_timeout, longest = shortest;
    if (document) {
        widen(&document->roles, POLICY_ID_absolute_timeout, &shortest, &longest);
        widen(&document->types, POLICY_ID_absolute_timeout, &shortest, &longest);
    }
    return longest;
}
