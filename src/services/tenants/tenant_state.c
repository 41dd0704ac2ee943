/* The state of one tenant: immutable, reference-counted, in one piece of memory with its texts. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tenants_private.h"

struct counted {
    struct tenant tenant; /* first: callers hold a pointer to it */
    _Atomic uint32_t references;
    char texts[];
};

static struct tenant nothing;

struct tenant *tenant_state_nothing(void)
{
    return &nothing;
}

static struct text pack_copied(char **at, struct text text)
{
    if (!text.data)
        return text;
    if (text.length > 0)
        memcpy(*at, text.data, text.length);
    struct text placed = {*at, text.length};
    *at += text.length;
    return placed;
}

struct tenant *tenant_state_create(const struct tenant *content)
{
    struct counted *counted =
        xmalloc(sizeof(*counted) + content->reason.length + content->actor.length);
    char *at = counted->texts;
    counted->tenant = *content;
    counted->tenant.reason = pack_copied(&at, content->reason);
    counted->tenant.actor = pack_copied(&at, content->actor);
    atomic_init(&counted->references, 1);
    return &counted->tenant;
}

struct tenant *tenant_state_ref(struct tenant *tenant)
{
    if (tenant != &nothing)
        atomic_fetch_add_explicit(&((struct counted *)tenant)->references, 1, memory_order_relaxed);
    return tenant;
}

void tenant_state_unref(struct tenant **given)
{
    struct counted *counted = (struct counted *)*given;
    bool is_counted = *given && *given != &nothing;
    *given = NULL;
    if (!is_counted || atomic_fetch_sub_explicit(&counted->references, 1, memory_order_acq_rel) > 1)
        return;
    policy_unref(&counted->tenant.policy);
    free(counted);
}

size_t tenant_state_bytes(struct tenant *tenant)
{
    if (tenant == &nothing)
        return 0;
    size_t bytes = malloc_usable_size(tenant) + sizeof(size_t);
    return tenant->policy ? bytes + policy_bytes(tenant->policy) : bytes;
}
