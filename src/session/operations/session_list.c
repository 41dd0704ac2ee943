/* The lists of a user's sessions. */
#include "session_list.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "location.h"
#include "metrics.h"
#include "session/engine/revocation.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"

void session_list_prepare(struct operation *operation, const struct user_tag *owner,
                          struct user_state *state)
{
    assert(operation->tenancy);
    struct policy policy;
    operation_policy(operation, &policy);
    operation_apply_policies(operation, state);
    (void)revocation_apply(operation, state, owner, NULL, &policy);
    /* As in an update: a user record that does not open may have held a cutoff for these
     * sessions. */
    if (state->user_unreadable) {
        metrics_add(METRIC_RECORDS_UNREADABLE, 1);
        rules_end_before_now(state, &state->user, operation->now_ms);
    }
}

static int compare_sessions_by_age(const void *a, const void *b)
{
    const struct listed_session *first = a, *second = b;
    return memcmp(second->session_id.data, first->session_id.data, 2 * SESSION_ID);
}

static struct text location_of(const struct operation *operation, struct text ip)
{
    struct ip_address address;
    if (!ip_parse(ip, &address))
        return (struct text){0};
    return location_name(operation->context->locations, &address, operation->arena);
}

static struct listed_session list_session(struct operation *operation,
                                          const struct session *session,
                                          const struct policy *policy)
{
    return (struct listed_session){
        .session_id = operation_session_id(operation, session->id),
        .device_json = session_json_device(session->record.session_json),
        .authentication_json = session_json_authentication_text(session->record.session_json),
        .ip = session->record.ip,
        .location = location_of(operation, session->record.ip),
        .user_agent = session->record.user_agent,
        .created_s = rules_began_s(session),
        .last_seen_s = session->last_seen_s,
        .expires_s = rules_lifetimes(session, policy, operation->now_ms / 1000).idle_s,
    };
}

size_t session_list_list(struct operation *operation, const struct user_state *state,
                         const struct session *current, struct listed_session **ret)
{
    struct policy policy;
    size_t count = 0;
    operation_policy(operation, &policy);
    *ret = arena_alloc(operation->arena, (state->session_count + 1) * sizeof(**ret));
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        if (rules_end_cause(&state->user, session, &policy, operation->now_ms))
            continue;
        (*ret)[count] = list_session(operation, session, &policy);
        (*ret)[count++].current = session == current;
    }
    qsort(*ret, count, sizeof(**ret), compare_sessions_by_age);
    return count;
}

static struct ended_session list_tombstone(struct operation *operation,
                                           const struct tombstone_entry *entry)
{
    const struct tombstone *tombstone = &entry->tombstone;
    int64_t created_s = token_session_created_ms(entry->id) / 1000;
    bool ahead = created_s > tombstone->ended_s; /* an order, not a time (rules.h) */
    return (struct ended_session){
        .session_id = operation_session_id(operation, entry->id),
        .reason = tombstone->reason,
        .actor = tombstone->actor,
        .created_s = ahead ? tombstone->ended_s : created_s,
        .ended_s = tombstone->ended_s,
    };
}

static int64_t over_since_s(const struct user_state *state, const struct session *session,
                            enum end_cause cause, const struct policy *policy, int64_t now_s)
{
    struct lifetimes lifetimes = rules_lifetimes(session, policy, now_s);
    if (cause == CAUSE_IDLE)
        return lifetimes.idle_s;
    if (cause == CAUSE_EXPIRED)
        return lifetimes.session_s;
    int64_t cutoff_s = state->user.not_before_ms / 1000;
    return cutoff_s < now_s ? cutoff_s : now_s;
}

static int last_to_end_first(const void *a, const void *b)
{
    const struct ended_session *first = a, *second = b;
    if (first->ended_s != second->ended_s)
        return first->ended_s < second->ended_s ? 1 : -1;
    return memcmp(second->session_id.data, first->session_id.data, 2 * SESSION_ID);
}

size_t session_list_ended(struct operation *operation, const struct user_state *state,
                          struct ended_session **ret)
{
    struct policy policy;
    size_t count = 0;
    operation_policy(operation, &policy);
    *ret = arena_alloc(operation->arena,
                       (state->session_count + state->tombstone_count + 1) * sizeof(**ret));
    for (size_t i = 0; i < state->tombstone_count; i++)
        (*ret)[count++] = list_tombstone(operation, &state->tombstones[i]);
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        enum end_cause cause = rules_end_cause(&state->user, session, &policy, operation->now_ms);
        if (cause == CAUSE_NONE)
            continue;
        (*ret)[count++] = (struct ended_session){
            .session_id = operation_session_id(operation, session->id),
            .reason = reasons_of_cause(cause),
            .created_s = rules_began_s(session),
            .ended_s = over_since_s(state, session, cause, &policy, operation->now_ms / 1000),
            .device_json = session_json_device(session->record.session_json),
        };
    }
    qsort(*ret, count, sizeof(**ret), last_to_end_first);
    return count;
}

struct user_status session_list_user(const struct user_record *user, int64_t now_s)
{
    struct user_status told = {.not_before_s = user->not_before_ms / 1000};
    if (rules_frozen(user, now_s)) {
        told.frozen = true;
        told.frozen_reason = user->frozen_reason;
        told.frozen_until_s = user->frozen_until_s;
    }
    return told;
}
