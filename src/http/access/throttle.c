/* The limits that a request counts against, and their report in headers. */
#include "throttle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "alert_triggers.h"
#include "clock.h"
#include "http/exchange/request_private.h"
#include "http/server/worker.h"
#include "metrics.h"
#include "policy.h"

enum { TENANT_CELLS = 65536, USER_CELLS = 262144, LOGIN_CELLS = 262144, ADDRESS_CELLS = 65536 };
/* Calls that end sessions, with the tokens of one: far more than a user has sessions to end. */
enum { ENDS_PER_SECOND = 10, ENDS_BURST = 100 };
/* One user's part of his tenant's rate, and the least that he gets. */
enum { USERS_PART = 10, USER_LEAST_PER_SECOND = 1, USER_LEAST_BURST = 10 };

/* Tables of their own, so that a crowd of addresses or users cannot evict a tenant. */
struct throttle {
    struct ratelimit *tenants, *users, *logins, *addresses;
};

static const struct {
    const char *name; /* of the policy in the RateLimit fields */
    enum metric metric;
    const char *refusal;
} kinds[] = {
    [RATE_TENANT] = {"tenant", METRIC_LIMITED_CALLS, "The tenant is over its rate on this node"},
    [RATE_USERS] = {"users", METRIC_LIMITED_CALLS,
                    "The tenant's users are over its rate on this node"},
    [RATE_USER] = {"user", METRIC_LIMITED_CALLS,
                   "The user is over his part of the tenant's rate on this node"},
    [RATE_LOGINS] = {"logins", METRIC_LIMITED_LOGINS,
                     "The user is over the tenant's rate of logins on this node"},
    [RATE_KEYS] = {"wrong-keys", METRIC_LIMITED_KEYS,
                   "Too many wrong service keys came from this address"},
    [RATE_TOKENS] = {"forged-tokens", METRIC_LIMITED_TOKENS,
                     "Too many tokens that were never issued came from this address"},
    [RATE_ENDS] = {"ends", METRIC_LIMITED_CALLS,
                   "Too many calls that end sessions came with tokens of this session"},
    [RATE_AUTHZ] = {"authz", METRIC_LIMITED_CALLS,
                    "The tenant's users are over its rate of calls by gateways on this node"},
};

struct throttle *throttle_create(void)
{
    struct throttle *throttle = xcalloc(1, sizeof(*throttle));
    throttle->tenants = ratelimit_create(TENANT_CELLS);
    throttle->users = ratelimit_create(USER_CELLS);
    throttle->logins = ratelimit_create(LOGIN_CELLS);
    throttle->addresses = ratelimit_create(ADDRESS_CELLS);
    return throttle;
}

void throttle_destroy(struct throttle **throttle)
{
    if (*throttle == NULL)
        return;
    ratelimit_destroy(&(*throttle)->tenants);
    ratelimit_destroy(&(*throttle)->users);
    ratelimit_destroy(&(*throttle)->logins);
    ratelimit_destroy(&(*throttle)->addresses);
    free(*throttle);
    *throttle = NULL;
}

static const struct throttle *rates_of(const struct request *request)
{
    return request->worker->server->throttle;
}

/* --- counting --- */

static bool count_call(struct request *request, struct ratelimit *limit, enum rate_kind kind,
                       struct text name, struct rate rate)
{
    struct request_private *private = request->private;
    assert(private->counted_count < MOST_COUNTED);
    assert(rate.count > 0 && rate.burst > 0 && rate.per_ms > 0 && name.length > 0);
    struct counted *counted = &private->counted[private->counted_count++];
    counted->kind = kind;
    counted->verdict = ratelimit_take(limit, name.data, name.length, rate, clock_monotonic_ns());
    counted->window_s = (rate.burst * rate.per_ms / rate.count + SECOND_MS - 1) / SECOND_MS;
    if (!counted->verdict.allowed)
        metrics_add(kinds[kind].metric, 1);
    return counted->verdict.allowed;
}

/* Only the last limit can be the exceeded one: after it nothing is counted. */
struct text throttle_refusal(const struct request *request)
{
    const struct request_private *private = request->private;
    assert(private->counted_count > 0);
    assert(!private->counted[private->counted_count - 1].verdict.allowed);
    return text_of(kinds[private->counted[private->counted_count - 1].kind].refusal);
}

/* --- tenants --- */

static void find_policy(const struct request *request, const uint8_t tag[TENANT_TAG],
                        struct policy *ret)
{
    session_known_policy(request->worker->sessions, request->conf, tag, ret);
}

static const struct keyring *keyring_of(const struct request *request)
{
    return request->private->config->context.keyring;
}

static const uint8_t *tenant_tag_of(const struct request *request, struct text tenant)
{
    return tag_memo_find(request->worker->tag_memos, keyring_of(request), tenant);
}

/* For people. A token reveals the tag alone, which is printed as `sessiond keys` prints it. */
static struct text tenant_name(struct request *request, const uint8_t tag[TENANT_TAG])
{
    struct text name = tag_memo_name(request->worker->tag_memos, tag);
    if (name.data != NULL)
        return name;
    char *spelled = arena_alloc(&request->arena, TENANT_TAG * 4 / 3);
    return (struct text){spelled, text_to_base64url(spelled, tag, TENANT_TAG)};
}

/* Each kind of rate of a tenant has a name of its own. */
enum { TENANT_NAME = TENANT_TAG + 1 };

static void name_tenant(enum rate_kind kind, const uint8_t tag[TENANT_TAG],
                        uint8_t name[TENANT_NAME])
{
    memcpy(name, tag, TENANT_TAG);
    name[TENANT_TAG] = (uint8_t)kind;
}

/* Counts a call against a rate of the tenant. */
static bool count_tenant_at(struct request *request, enum rate_kind kind,
                            const uint8_t tag[TENANT_TAG], struct rate rate)
{
    uint8_t name[TENANT_NAME];
    name_tenant(kind, tag, name);
    assert(!request->private->tenant_counted);
    request->private->tenant_counted = true;
    bool within = count_call(request, rates_of(request)->tenants, kind,
                             (struct text){(const char *)name, sizeof(name)}, rate);
    if (!within)
        alert_triggers_tenant_rate(request, tenant_name(request, tag));
    return within;
}

static struct rate tenant_rate(const struct policy *policy)
{
    int64_t burst = policy->burst > 0 ? policy->burst : policy->requests_per_second;
    assert(policy->requests_per_second > 0);
    return (struct rate){policy->requests_per_second, SECOND_MS, burst};
}

/* Counts the calls by a tenant's keys, or those by all its users, at the same rate. */
static bool count_tenant(struct request *request, enum rate_kind kind,
                         const uint8_t tag[TENANT_TAG], const struct policy *policy)
{
    return count_tenant_at(request, kind, tag, tenant_rate(policy));
}

/* A token costs nothing to present. So its user gets only a part of the users' rate, and nothing of
 * the rate of the tenant's services. */
static bool count_user(struct request *request, const struct user_tag *owner,
                       const struct policy *policy)
{
    int64_t part = policy->requests_per_second / USERS_PART;
    struct rate rate = {part > USER_LEAST_PER_SECOND ? part : USER_LEAST_PER_SECOND, SECOND_MS,
                        part > USER_LEAST_BURST ? part : USER_LEAST_BURST};
    struct text name = {(const char *)owner, sizeof(*owner)};
    return count_call(request, rates_of(request)->users, RATE_USER, name, rate) &&
           count_tenant(request, RATE_USERS, owner->tenant, policy);
}

static bool is_tenant_within(struct request *request, struct text tenant)
{
    struct policy policy;
    const uint8_t *tag = tenant_tag_of(request, tenant);
    find_policy(request, tag, &policy);
    return policy.requests_per_second == 0 || count_tenant(request, RATE_TENANT, tag, &policy);
}

static bool is_genuine(const struct request *request, enum token_kind kind, struct text text)
{
    struct token token;
    bool genuine = token_read(keyring_of(request), kind, text, &token);
    crypto_wipe(token.secret, sizeof(token.secret));
    return genuine;
}

/* Everyone can write a tenant's tag into a token, so only a genuine one counts: against the tenant
 * if a service presents it, else against its user. */
static bool is_token_within(struct request *request, enum token_kind kind, struct text text)
{
    struct user_tag claimed;
    struct policy policy;
    if (!token_claimed_owner(text, &claimed))
        return true;
    find_policy(request, claimed.tenant, &policy);
    if (policy.requests_per_second == 0)
        return true;
    if (!is_genuine(request, kind, text))
        return true;
    return request->caller.kind == CALLER_SERVICE
               ? count_tenant(request, RATE_TENANT, claimed.tenant, &policy)
               : count_user(request, &claimed, &policy);
}

/* Each of these calls is durable, so repeated calls with one token have a limit of their own. It is
 * the session's, so that the user's other sessions are not affected, and is reported only when it
 * is exceeded. */
bool throttle_admit_end(struct request *request)
{
    struct token token;
    struct text presented = request->caller.token;
    bool genuine = token_read(keyring_of(request), TOKEN_ACCESS, presented, &token) ||
                   token_read(keyring_of(request), TOKEN_REFRESH, presented, &token);
    crypto_wipe(token.secret, sizeof(token.secret));
    if (!genuine)
        return true;
    uint8_t name[sizeof(token.owner) + SESSION_ID];
    memcpy(name, &token.owner, sizeof(token.owner));
    memcpy(name + sizeof(token.owner), token.session_id, SESSION_ID);
    struct rate rate = {ENDS_PER_SECOND, SECOND_MS, ENDS_BURST};
    if (!count_call(request, rates_of(request)->users, RATE_ENDS,
                    (struct text){(const char *)name, sizeof(name)}, rate))
        return false;
    request->private->counted_count--;
    return true;
}

enum err throttle_admit_caller(struct request *request, struct text *detail)
{
    assert(request->route->rate != RATED_NOBODY || request->caller.kind == CALLER_NOBODY);
    const struct caller *caller = &request->caller;
    bool within = true;
    if (request->route->rate == RATED_ENDING)
        within = caller->kind != CALLER_USER || throttle_admit_end(request);
    else if (caller->kind == CALLER_USER)
        within = is_token_within(request, TOKEN_ACCESS, caller->token);
    else if (request_caller_is_bound(caller))
        within = is_tenant_within(request, text_of(caller->key->tenant));
    if (within)
        return ERR_OK;
    *detail = throttle_refusal(request);
    return ERR_RATE_LIMITED;
}

/* True if the tenant was counted before, or is not for calls of this class. A bound key was judged
 * by its own tenant, whatever tokens it presents. */
static bool is_admitted(const struct request *request)
{
    return request->private->tenant_counted || request->route->rate != RATED_TENANT ||
           request_caller_is_bound(&request->caller);
}

bool throttle_admit_tenant(struct request *request, struct text tenant)
{
    return is_admitted(request) || is_tenant_within(request, tenant);
}

bool throttle_admit_token(struct request *request, enum token_kind kind, struct text token)
{
    return is_admitted(request) || is_token_within(request, kind, token);
}

bool throttle_admit_authz(struct request *request)
{
    struct text text = request->caller.token;
    struct user_tag claimed;
    struct policy policy;
    if (!token_claimed_owner(text, &claimed))
        return true;
    find_policy(request, claimed.tenant, &policy);
    int64_t most = policy.authz_per_second;
    return most == 0 || !is_genuine(request, TOKEN_ACCESS, text) ||
           count_tenant_at(request, RATE_AUTHZ, claimed.tenant,
                           (struct rate){most, SECOND_MS, most});
}

bool throttle_admit_login(struct request *request, struct text tenant, struct text user_id)
{
    assert(tenant.length > 0 && user_id.length > 0);
    struct policy policy;
    const uint8_t *tag = tenant_tag_of(request, tenant);
    find_policy(request, tag, &policy);
    int64_t most = policy.logins_per_user_per_minute;
    if (most == 0)
        return true;
    SCOPED(buffer_free) struct buffer name = {0};
    buffer_add(&name, tag, TENANT_TAG);
    buffer_add_text(&name, user_id);
    struct rate rate = {most, MINUTE_MS, most};
    return count_call(request, rates_of(request)->logins, RATE_LOGINS, buffer_text(&name), rate);
}

/* --- batches --- */

enum err throttle_admit_more(struct request *request, struct text tenant, int64_t calls,
                             struct text *detail)
{
    struct request_private *private = request->private;
    struct policy policy;
    uint8_t name[TENANT_NAME];
    if (!private->tenant_counted || calls == 0)
        return ERR_OK;
    const uint8_t *tag = tenant_tag_of(request, tenant);
    struct rate_verdict *verdict = &private->counted[private->counted_count - 1].verdict;
    find_policy(request, tag, &policy);
    name_tenant(RATE_TENANT, tag, name);
    *verdict = ratelimit_take_many(rates_of(request)->tenants, name, sizeof(name),
                                   tenant_rate(&policy), calls, clock_monotonic_ns());
    if (verdict->allowed)
        return ERR_OK;
    metrics_add(METRIC_LIMITED_CALLS, 1);
    alert_triggers_tenant_rate(request, tenant_name(request, tag));
    *detail = throttle_refusal(request);
    if (calls >= verdict->limit)
        *detail = arena_format(&request->arena,
                               "The batch counts as %lld calls; the tenant may have %lld at once "
                               "on this node",
                               (long long)calls + 1, (long long)verdict->limit);
    return ERR_RATE_LIMITED;
}

bool throttle_admit_item(struct request *request, struct text token)
{
    struct user_tag claimed;
    struct policy policy;
    uint8_t name[TENANT_NAME];
    if (!token_claimed_owner(token, &claimed))
        return true;
    find_policy(request, claimed.tenant, &policy);
    if (policy.requests_per_second == 0)
        return true;
    if (!is_genuine(request, TOKEN_ACCESS, token))
        return true;
    name_tenant(RATE_TENANT, claimed.tenant, name);
    bool within = ratelimit_take(rates_of(request)->tenants, name, sizeof(name),
                                 tenant_rate(&policy), clock_monotonic_ns())
                      .allowed;
    if (!within) {
        metrics_add(METRIC_LIMITED_CALLS, 1);
        alert_triggers_tenant_rate(request, tenant_name(request, claimed.tenant));
    }
    return within;
}

/* --- addresses --- */

/* The owner of one IPv6 address has all of its /64. */
struct address_name {
    uint8_t kind, version, network[8];
};

static bool name_address(enum rate_kind kind, struct text address, struct address_name *ret)
{
    struct ip_address parsed;
    if (address.data == NULL || !ip_parse(address, &parsed))
        return false;
    *ret =
        (struct address_name){.kind = (uint8_t)kind, .version = parsed.family == AF_INET ? 4 : 6};
    memcpy(ret->network, parsed.bytes, sizeof(ret->network));
    return true;
}

static bool is_address_within(struct request *request, enum rate_kind kind, struct text address,
                              int64_t per_minute)
{
    struct address_name name;
    if (per_minute == 0 || !name_address(kind, address, &name))
        return true;
    struct rate rate = {per_minute, MINUTE_MS, per_minute};
    struct text named = {(const char *)&name, sizeof(name)};
    return count_call(request, rates_of(request)->addresses, kind, named, rate);
}

enum err throttle_note_wrong_key(struct request *request, struct text *detail)
{
    if (is_address_within(request, RATE_KEYS, request->caller.address,
                          request->conf->limits_wrong_keys_per_minute))
        return ERR_KEY_INVALID;
    /* The audit line names the cause, not the limit. */
    request->audit.reason = text_of(err_code(ERR_KEY_INVALID));
    *detail = text_of(kinds[RATE_KEYS].refusal);
    return ERR_RATE_LIMITED;
}

bool throttle_note_forged_token(struct request *request, struct text ip)
{
    struct text address = request->caller.kind == CALLER_SERVICE ? ip : request->caller.address;
    return is_address_within(request, RATE_TOKENS, address,
                             request->conf->limits_forged_tokens_per_minute);
}

bool throttle_note_forged_item(const struct request *request, struct text ip)
{
    struct address_name name;
    int64_t per_minute = request->conf->limits_forged_tokens_per_minute;
    struct rate rate = {per_minute, MINUTE_MS, per_minute};
    if (per_minute == 0 || !name_address(RATE_TOKENS, ip, &name))
        return true;
    bool within = ratelimit_take(rates_of(request)->addresses, &name, sizeof(name), rate,
                                 clock_monotonic_ns())
                      .allowed;
    if (!within)
        metrics_add(kinds[RATE_TOKENS].metric, 1);
    return within;
}

/* --- telling --- */

static int64_t to_seconds(int64_t ms)
{
    return (ms + SECOND_MS - 1) / SECOND_MS;
}

void throttle_add_headers(struct MHD_Response *response, const struct request *request)
{
    const struct request_private *private = request->private;
    if (private->counted_count == 0)
        return;
    char policy[128], state[128];
    size_t policy_length = 0, state_length = 0;
    for (size_t i = 0; i < private->counted_count; i++) {
        const struct counted *counted = &private->counted[i];
        const char *name = kinds[counted->kind].name, *comma = i > 0 ? ", " : "";
        policy_length += (size_t)snprintf(
            policy + policy_length, sizeof(policy) - policy_length, "%s\"%s\";q=%lld;w=%lld", comma,
            name, (long long)counted->verdict.limit, (long long)counted->window_s);
        state_length += (size_t)snprintf(state + state_length, sizeof(state) - state_length,
                                         "%s\"%s\";r=%lld;t=%lld", comma, name,
                                         (long long)counted->verdict.remaining,
                                         (long long)to_seconds(counted->verdict.reset_ms));
    }
    assert(policy_length < sizeof(policy) && state_length < sizeof(state));
    MHD_add_response_header(response, "RateLimit-Policy", policy);
    MHD_add_response_header(response, "RateLimit", state);
}

unsigned throttle_retry_after_s(const struct request *request)
{
    int64_t longest_ms = SECOND_MS;
    for (size_t i = 0; i < request->private->counted_count; i++) {
        const struct rate_verdict *verdict = &request->private->counted[i].verdict;
        longest_ms = verdict->retry_ms > longest_ms ? verdict->retry_ms : longest_ms;
    }
    return (unsigned)to_seconds(longest_ms);
}
