/* Contradictions: times that must be shorter than others, limits that need others. The rows of
 * tbl/policy.h apply to the tenant as a whole, and to each of its roles and device types. */
#include "policy_private.h"

#include <inttypes.h>

static const struct order {
    enum policy_member shorter, longer;
    bool strictly;
} orders[] = {
#define POLICY_ORDER(shorter, longer, strictly) {POLICY_ID_##shorter, POLICY_ID_##longer, strictly},
#include "tbl/policy.h"
};

static const struct limit {
    enum policy_member member, most;
} limits[] = {
#define POLICY_LIMIT(member, most) {POLICY_ID_##member, POLICY_ID_##most},
#include "tbl/policy.h"
};

static const struct need {
    enum policy_member member, other;
} needs[] = {
#define POLICY_NEEDS(member, other) {POLICY_ID_##member, POLICY_ID_##other},
#include "tbl/policy.h"
};

/* The values in force for one of these, and their origin. */
struct view {
    const char *list; /* "roles" or "device_types"; NULL for the tenant as a whole */
    const struct policy_override *one;
    const struct policy_settings *tenant;
    struct policy *policy; /* in force */
};

static bool is_own(const struct view *view, enum policy_member member)
{
    return view->one ? (view->one->set & UINT64_C(1) << member) != 0
                     : (view->tenant->set & UINT64_C(1) << member) != 0;
}

/* Not a default. */
static bool is_set(const struct view *view, enum policy_member member)
{
    return is_own(view, member) || (view->tenant->set & UINT64_C(1) << member) != 0;
}

/* "roles.admin.idle_timeout" (7200), "idle_timeout" (1800), "idle_timeout" (1800, the default) */
static void add_value_and_origin(struct buffer *out, const struct view *view,
                                 enum policy_member member)
{
    char name[41];
    buffer_add_char(out, '"');
    if (view->one && is_own(view, member))
        buffer_addf(out, "%s.%s.", view->list, log_quote(name, sizeof(name), view->one->name));
    bool set = is_set(view, member);
    buffer_addf(out, "%s\" (%" PRId64 "%s)", policy_rows[member].path,
                *policy_value(view->policy, member), set ? "" : ", the default");
}

/* Two defaults fit each other, unless a bound of the platform has lowered the longer one. */
static bool check_policy_order(const struct view *view, const struct order *order,
                               struct buffer *error)
{
    int64_t shorter = *policy_value(view->policy, order->shorter);
    int64_t longer = *policy_value(view->policy, order->longer);
    bool fits = order->strictly ? shorter < longer : shorter <= longer;
    if (fits)
        return true;
    if (!is_set(view, order->shorter) && !is_set(view, order->longer)) {
        *policy_value(view->policy, order->shorter) = longer - order->strictly;
        return true;
    }
    add_value_and_origin(error, view, order->shorter);
    buffer_addf(error, " must be %s than ", order->strictly ? "shorter" : "no longer");
    add_value_and_origin(error, view, order->longer);
    return false;
}

/* A default gives way to the platform's bound; an explicit value is refused. */
static bool check_limit(const struct view *view, const struct limit *limit, struct buffer *error)
{
    int64_t *value = policy_value(view->policy, limit->member);
    int64_t most = *policy_value(view->policy, limit->most);
    if (*value <= most)
        return true;
    if (!is_own(view, limit->member)) {
        *value = most;
        return true;
    }
    add_value_and_origin(error, view, limit->member);
    buffer_addf(error, " must be no longer than \"%s\" (%" PRId64 "), which is the platform's",
                policy_rows[limit->most].path, most);
    return false;
}

static bool check_policy_need(const struct view *view, const struct need *need,
                              struct buffer *error)
{
    if (*policy_value(view->policy, need->member) == 0 ||
        *policy_value(view->policy, need->other) != 0 || !is_own(view, need->member))
        return true;
    add_value_and_origin(error, view, need->member);
    buffer_addf(error, " needs \"%s\", which is 0", policy_rows[need->other].path);
    return false;
}

static bool check_view(const struct view *view, struct buffer *error)
{
    bool good = true;
    for (size_t i = 0; good && i < sizeof(limits) / sizeof(limits[0]); i++)
        good = check_limit(view, &limits[i], error);
    for (size_t i = 0; good && i < sizeof(orders) / sizeof(orders[0]); i++)
        good = check_policy_order(view, &orders[i], error);
    for (size_t i = 0; good && i < sizeof(needs) / sizeof(needs[0]); i++)
        good = check_policy_need(view, &needs[i], error);
    return good;
}

static void apply(uint64_t set, const int64_t *values, struct policy *policy)
{
    for (uint64_t left = set; left != 0; left &= left - 1) {
        enum policy_member member = (enum policy_member)__builtin_ctzll(left);
        *policy_value(policy, member) = values[member];
    }
}

static bool check_named(const struct policy_settings *tenant, const struct policy *policy,
                        const char *list, const struct policy_named *named, struct buffer *error)
{
    bool good = true;
    for (size_t i = 0; good && i < named->count; i++) {
        struct policy own = *policy;
        apply(named->items[i].set, named->items[i].values, &own);
        good = check_view(&(struct view){list, &named->items[i], tenant, &own}, error);
    }
    return good;
}

bool policy_check(const struct conf *conf, const struct policy_draft *draft, struct buffer *error)
{
    struct policy policy;
    policy_of_tenant(conf, NULL, &policy);
    apply(draft->tenant.set, draft->tenant.values, &policy);
    return check_view(&(struct view){NULL, NULL, &draft->tenant, &policy}, error) &&
           check_named(&draft->tenant, &policy, "roles", &draft->roles, error) &&
           check_named(&draft->tenant, &policy, "device_types", &draft->types, error);
}
