/* Names as they are on disk and on the wire: a change here loses what Redis holds. */
#include "keys.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void keys_prefix(enum keys_kind kind, char ret[KEYS_TAG_AT + 1])
{
    memcpy(ret, "sd:?:{", KEYS_TAG_AT + 1);
    ret[3] = (char)kind;
}

/* Writes what stands before the tag, and the tenant's part of the tag; returns the end. */
static char *begin_key(enum keys_kind kind, const uint8_t tenant[TENANT_TAG], char *ret)
{
    char prefix[KEYS_TAG_AT + 1];
    keys_prefix(kind, prefix);
    char *end = mempcpy(ret, prefix, KEYS_TAG_AT);
    return end + text_to_base64url(end, tenant, TENANT_TAG);
}

void keys_user(const struct user_tag *owner, enum keys_kind kind, char ret[KEYS_USER_LENGTH])
{
    char *end = begin_key(kind, owner->tenant, ret);
    *end++ = '.';
    end += text_to_base64url(end, owner->user, USER_TAG);
    *end++ = '}';
    assert(end == ret + KEYS_USER_LENGTH);
}

void keys_challenge(const struct user_tag *owner, const uint8_t id[SESSION_ID],
                    char ret[KEYS_CHALLENGE_LENGTH])
{
    keys_user(owner, KEYS_CHALLENGE, ret);
    ret[KEYS_USER_LENGTH] = ':';
    text_to_hex(ret + KEYS_USER_LENGTH + 1, id, SESSION_ID);
}

void keys_tenant(const uint8_t tag[TENANT_TAG], char ret[KEYS_TENANT_LENGTH])
{
    char *end = begin_key(KEYS_TENANT, tag, ret);
    *end++ = '}';
    assert(end == ret + KEYS_TENANT_LENGTH);
}

void keys_bucket(enum keys_kind kind, const uint8_t tenant[TENANT_TAG], unsigned bucket,
                 char ret[KEYS_BUCKET_LENGTH])
{
    static const char digits[KEYS_BUCKETS] = "0123456789abcdefg";
    assert(bucket < sizeof(digits));
    char *end = begin_key(kind, tenant, ret);
    *end++ = '.';
    *end++ = digits[bucket];
    *end = '}';
}

struct text keys_marks(const struct conf *conf, char ret[KEYS_MARKS_MAX])
{
    const char *name = conf->keys_installation;
    int length = snprintf(ret, KEYS_MARKS_MAX, "sd:k%s%s", name[0] ? ":" : "", name);
    return (struct text){ret, (size_t)length};
}

/* --- reading --- */

static bool has_form(struct text key, enum keys_kind kind, size_t length)
{
    char prefix[KEYS_TAG_AT + 1];
    keys_prefix(kind, prefix);
    return key.length == length && memcmp(key.data, prefix, KEYS_TAG_AT) == 0;
}

bool keys_read_epoch(struct text key, struct user_tag *owner)
{
    if (!has_form(key, KEYS_EPOCH, KEYS_USER_LENGTH))
        return false;
    struct text tenant = {key.data + KEYS_TAG_AT, TENANT_DIGITS};
    struct text user = {key.data + KEYS_TAG_AT + TENANT_DIGITS + 1, USER_DIGITS};
    return text_from_base64url(owner->tenant, TENANT_TAG, tenant) &&
           text_from_base64url(owner->user, USER_TAG, user);
}

bool keys_read_tenant(struct text key, uint8_t tag[TENANT_TAG])
{
    return has_form(key, KEYS_TENANT, KEYS_TENANT_LENGTH) &&
           key.data[KEYS_TENANT_LENGTH - 1] == '}' &&
           text_from_base64url(tag, TENANT_TAG,
                               (struct text){key.data + KEYS_TAG_AT, TENANT_DIGITS});
}

/* --- the store's --- */

static const struct text tracked[] = {{"sd:e:", 5}, {"sd:p:", 5}};

const struct store_keys keys_of_store = {
    .tracked = tracked,
    .tracked_count = sizeof(tracked) / sizeof(tracked[0]),
    .probe = "sd:e:",
};
