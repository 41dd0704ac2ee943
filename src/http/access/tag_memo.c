/* A table with one entry for each hash; a newer name replaces the older. */
#include "tag_memo.h"

#include <assert.h>
#include <string.h>

/* FNV-1a: operators choose the names, and a collision only costs one more hash. */
static size_t memo_index(struct text name)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (uint8_t)name.data[i]) * 16777619U;
    return (hash ^ hash >> 16) % TAG_MEMOS;
}

const uint8_t *tag_memo_find(struct tag_memo *memos, const struct keyring *keyring,
                             struct text tenant)
{
    assert(tenant.length > 0);
    struct tag_memo *memo = &memos[memo_index(tenant)];
    const uint8_t *secret = keyring_mark(keyring, 0);
    if (memo->length == tenant.length && memcmp(memo->name, tenant.data, tenant.length) == 0 &&
        memcmp(memo->secret, secret, KEY_MARK) == 0)
        return memo->tag;
    token_tag_tenant(keyring, tenant, memo->tag);
    memcpy(memo->secret, secret, KEY_MARK);
    memo->length = tenant.length <= sizeof(memo->name) ? (uint8_t)tenant.length : 0;
    memcpy(memo->name, tenant.data, memo->length);
    return memo->tag;
}

struct text tag_memo_name(const struct tag_memo *memos, const uint8_t tag[TENANT_TAG])
{
    for (size_t i = 0; i < TAG_MEMOS; i++)
        if (memos[i].length > 0 && memcmp(memos[i].tag, tag, TENANT_TAG) == 0)
            return (struct text){memos[i].name, memos[i].length};
    return (struct text){0};
}
