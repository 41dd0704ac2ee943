/* What lists show of a user. */
#include "living.h"

#include <stdlib.h>
#include <string.h>

#include "metrics.h"
#include "place.h"
#include "revocation.h"
#include "rules.h"
#include "shown.h"

bool living_is_behind(const struct user_state *state, int64_t fence_ms)
{
    if (state->version == 0 || state->epoch >= fence_ms)
        return false;
    metrics_add(METRIC_STORE_BEHIND, 1);
    return true;
}

void living_prepare(struct operation *operation, const struct user_tag *owner,
                    struct user_state *state)
{
    struct policy policy;
    operation_policy(operation, &policy);
    operation_apply_policies(operation, state);
    (void)revocation_apply(operation, state, owner, NULL, &policy);
    /* As in a change: what does not open may have said that these sessions are dead. */
    if (state->user_unreadable) {
        metrics_add(METRIC_RECORDS_UNREADABLE, 1);
        rules_end_before_now(state, &state->user, operation->now_ms);
    }
}

static int newest_first(const void *a, const void *b)
{
    const struct listed_session *first = a, *second = b;
    return memcmp(second->session_id.data, first->session_id.data, 2 * SESSION_ID);
}

static struct text location_of(const struct operation *operation, struct text ip)
{
    struct ip_address address;
    if (!ip_parse(ip, &address))
        return (struct text){0};
    return place_name(operation->context->places, &address, operation->arena);
}

static struct listed_session list_session(struct operation *operation,
                                          const struct session *session,
                                          const struct policy *policy)
{
    return (struct listed_session){
        .session_id = operation_session_id(operation, session->id),
        .device_json = shown_device(session->record.shown),
        .ip = session->record.ip,
        .location = location_of(operation, session->record.ip),
        .user_agent = session->record.user_agent,
        .created_s = token_session_created_ms(session->id) / 1000,
        .last_seen_s = session->last_seen_s,
        .expires_s = rules_lifetimes(session, policy).idle_s,
    };
}

size_t living_list(struct operation *operation, const struct user_state *state,
                   const struct session *current, struct listed_session **ret)
{
    struct policy policy;
    size_t count = 0;
    operation_policy(operation, &policy);
    *ret = arena_alloc(operation->arena, (state->session_count + 1) * sizeof(**ret));
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        if (rules_dead(&state->user, session, &policy, operation->now_ms).data)
            continue;
        (*ret)[count] = list_session(operation, session, &policy);
        (*ret)[count++].current = session == current;
    }
    qsort(*ret, count, sizeof(**ret), newest_first);
    return count;
}
