/* A memo of tenants' tags by name, so that a tenant is not hashed for every request. */
#pragma once

#include "token.h"

enum { TAG_MEMOS = 64, TAG_NAME_MAX = 63 };

struct tag_memo {
    uint8_t length; /* of the name; 0: empty */
    uint8_t tag[TENANT_TAG];
    uint8_t secret[KEY_MARK]; /* the mark of the names secret that made the tag */
    char name[TAG_NAME_MAX];
};

/* The tag of a tenant, from `memos` (TAG_MEMOS of them, of one thread) or computed and kept there.
 */
const uint8_t *tag_memo_find(struct tag_memo *memos, const struct keyring *keyring,
                             struct text tenant);
/* The tenant that a tag in the memo is of; absent if it is not there. */
struct text tag_memo_name(const struct tag_memo *memos, const uint8_t tag[TENANT_TAG]);
