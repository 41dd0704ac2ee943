/* Keys, scores and moments of the index. */
#include "index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "clock.h"
#include "session/model/rules.h"

unsigned index_bucket(const uint8_t user[USER_TAG])
{
    return 1 + user[0] % (INDEX_BUCKETS - 1);
}

int64_t index_floor(int64_t moment_s)
{
    return moment_s > 0 ? moment_s << INDEX_TIE_BITS : 0;
}

/* Uses other bytes than the bucket, so the bits differ within a bucket. */
int64_t index_score(int64_t moment_s, const uint8_t user[USER_TAG])
{
    uint32_t bits;
    memcpy(&bits, user + 1, sizeof(bits));
    return index_floor(moment_s) | (int64_t)(bits & ((1u << INDEX_TIE_BITS) - 1));
}

int64_t index_moment_of_score(int64_t score)
{
    return score >> INDEX_TIE_BITS;
}

/* Redis before 7.2 writes digits; later ones may write an exponent. */
bool index_read_score(const struct store_reply *reply, int64_t *ret)
{
    char digits[32], *end;
    struct text text = store_reply_text(reply);
    if (store_reply_int(reply, 0, INDEX_SCORE_MAX, ret))
        return true;
    if (text.length == 0 || text.length >= sizeof(digits))
        return false;
    memcpy(digits, text.data, text.length);
    digits[text.length] = '\0';
    double score = strtod(digits, &end);
    if (end != digits + text.length || !(score >= 0 && score <= (double)INDEX_SCORE_MAX))
        return false;
    *ret = (int64_t)score;
    return true;
}

int64_t index_moment(const struct session *session, const struct policy *policy, int64_t now_s)
{
    return session->record.remember ? rules_lifetimes(session, policy, now_s).session_s
                                    : rules_used_s(session, policy, now_s + CLOCKS_APART_MS / 1000);
}

int64_t index_moment_of_state(const struct user_state *state, const struct policy *policy,
                              int64_t cutoff_ms, int64_t now_ms)
{
    int64_t latest_s = 0;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        int64_t moment_s = index_moment(session, policy, now_ms / 1000);
        if (moment_s > latest_s && token_session_created_ms(session->id) >= cutoff_ms &&
            !rules_revoked(&state->user, session, now_ms))
            latest_s = moment_s;
    }
    return latest_s;
}

int64_t index_oldest(int64_t now_s, int64_t idle_timeout)
{
    return now_s - idle_timeout - rules_unwritten_s(idle_timeout) - INDEX_STEP;
}

bool index_is_due(int64_t seen_s, int64_t now_s)
{
    return seen_s / INDEX_STEP != now_s / INDEX_STEP;
}

struct index_window index_window(const struct operation *operation)
{
    const struct tenant *tenant = operation->tenancy;
    int64_t now_s = operation->now_ms / 1000;
    int64_t shortest_s, longest_s;
    policy_idle_range(operation->conf, tenant->policy, &shortest_s, &longest_s);
    int64_t low_s = index_oldest(now_s, longest_s);
    int64_t sure_s = now_s - shortest_s;
    /* A user who logged in after the cutoff was written since. A cutoff ahead of now does not tell
     * when it was set. */
    int64_t cutoff_s = tenant->not_before_ms / 1000;
    if (low_s < cutoff_s && !rules_is_ahead(tenant->not_before_ms, operation->now_ms))
        low_s = cutoff_s;
    if (sure_s < low_s)
        sure_s = low_s;
    assert(sure_s >= low_s);
    return (struct index_window){index_floor(low_s), index_floor(sure_s)};
}

/* --- pages --- */

enum {
    SCORE = 8,
    POSITION = 1 + SCORE + USER_TAG,
    PAGE_MAC = 12,
    PAGE_TOKEN = POSITION + PAGE_MAC
};
_Static_assert((PAGE_TOKEN * 4 + 2) / 3 == PAGE_TOKEN_LENGTH, "base64url");

static void hash_position(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                          const uint8_t position[POSITION], uint8_t mac[PAGE_MAC])
{
    const struct text parts[] = {{(const char *)tenant, TENANT_TAG},
                                 {(const char *)position, POSITION}};
    crypto_keyed_hash(keyring, CRYPTO_PAGE, parts, 2, mac, PAGE_MAC);
}

void index_page_token_print(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                            const struct index_position *position, char ret[PAGE_TOKEN_LENGTH])
{
    uint8_t bytes[PAGE_TOKEN];
    bytes[0] = position->bucket;
    bytes_put(bytes + 1, (uint64_t)position->score, SCORE);
    memcpy(bytes + 1 + SCORE, position->user, USER_TAG);
    hash_position(keyring, tenant, bytes, bytes + POSITION);
    text_to_base64url(ret, bytes, sizeof(bytes));
}

bool index_page_token_read(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                           struct text token, struct index_position *ret)
{
    uint8_t bytes[PAGE_TOKEN], mac[PAGE_MAC];
    if (!text_from_base64url(bytes, sizeof(bytes), token))
        return false;
    hash_position(keyring, tenant, bytes, mac);
    if (!crypto_equal(mac, bytes + POSITION, PAGE_MAC))
        return false;
    ret->bucket = bytes[0];
    ret->score = (int64_t)bytes_get(bytes + 1, SCORE);
    memcpy(ret->user, bytes + 1 + SCORE, USER_TAG);
    return ret->bucket < INDEX_BUCKETS;
}
