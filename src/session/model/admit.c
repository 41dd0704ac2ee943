/* Admission: which of the user's sessions a login replaces. */
#include <string.h>

#include "rules.h"

/* The sessions that a limit counts: all, or those of one device type. */
struct counted {
    const bool *active;
    const struct text *type; /* NULL: all */
};

static bool counts(const struct counted *counted, const struct user_state *state, size_t i)
{
    const struct session *session = &state->sessions[i];
    return counted->active[i] && !session->ended &&
           (!counted->type || text_equal(session->device_type, *counted->type));
}

/* Counts active sessions that this login has not ended. */
static size_t count_remaining(const struct user_state *state, const struct counted *counted)
{
    size_t count = 0;
    for (size_t i = 0; i < state->session_count; i++)
        count += counts(counted, state, i);
    return count;
}

static bool is_displaced(const struct session *session, const struct device *device,
                         enum exclusive exclusive)
{
    if (device->id.length > 0 && text_equal(session->device_id, device->id))
        return true;
    return exclusive == EXCLUSIVE_USER ||
           (exclusive == EXCLUSIVE_DEVICE_TYPE && text_equal(session->device_type, device->type));
}

/* The lowest rank is evicted first: the oldest login, or the longest possible idleness. */
static int64_t eviction_rank(const struct session *session, const struct policy *policy,
                             int64_t now_s)
{
    return policy->overflow == OVERFLOW_EVICT_IDLEST ? rules_maybe_used_s(session, policy, now_s)
                                                     : token_session_created_ms(session->id);
}

static struct session *next_victim(struct user_state *state, const struct counted *counted,
                                   const struct policy *policy, int64_t now_s)
{
    struct session *victim = NULL;
    int64_t lowest = INT64_MAX;
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        int64_t rank = eviction_rank(session, policy, now_s);
        if (!counts(counted, state, i) || rank >= lowest)
            continue;
        lowest = rank;
        victim = session;
    }
    return victim;
}

static enum err make_room_for_login(struct user_state *state, const struct counted *counted,
                                    int64_t most, const struct policy *policy, int64_t now_s)
{
    size_t allowed = (size_t)most;
    if (count_remaining(state, counted) < allowed)
        return ERR_OK;
    if (policy->overflow == OVERFLOW_REJECT)
        return ERR_DEVICE_LIMIT;
    size_t keep = policy->overflow == OVERFLOW_EVICT_ALL ? 0 : allowed - 1;
    while (count_remaining(state, counted) > keep)
        next_victim(state, counted, policy, now_s)->ended = true;
    return ERR_OK;
}

enum err admit_login(struct user_state *state, const struct device *device,
                     const struct policy *policy, int64_t now_ms)
{
    bool active[1 + state->session_count];
    memset(active, 0, sizeof(active));
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        active[i] = !rules_end_cause(&state->user, session, policy, now_ms);
        if (active[i] && is_displaced(session, device, (enum exclusive)policy->exclusive))
            session->ended = true;
    }
    struct counted all = {active, NULL}, of_type = {active, &device->type};
    enum err err = ERR_OK;
    if (policy->max_devices_of_type > 0)
        err = make_room_for_login(state, &of_type, policy->max_devices_of_type, policy,
                                  now_ms / 1000);
    return err == ERR_OK
               ? make_room_for_login(state, &all, policy->max_devices, policy, now_ms / 1000)
               : err;
}

bool admit_device_is_new(const struct user_state *state, struct text device_id)
{
    if (device_id.length == 0)
        return true;
    for (size_t i = 0; i < state->session_count; i++)
        if (text_equal(state->sessions[i].device_id, device_id))
            return false;
    return true;
}
