/* Rules of admission: which of a user's sessions a login gives up. */
#include <string.h>

#include "rules.h"

/* The sessions that a limit counts: all, or those of one device type. */
struct counted {
    const bool *alive;
    const struct text *type; /* NULL: all */
};

static bool counts(const struct counted *counted, const struct user_state *state, size_t i)
{
    const struct session *session = &state->sessions[i];
    return counted->alive[i] && !session->ended &&
           (!counted->type || text_equal(session->device_type, *counted->type));
}

/* Living sessions that this login has not ended. */
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
    switch (exclusive) {
    case EXCLUSIVE_USER:
        return true;
    case EXCLUSIVE_DEVICE_TYPE:
        return text_equal(session->device_type, device->type);
    case EXCLUSIVE_NONE:
        break;
    }
    return false;
}

/* The session that goes first: oldest by login, or idlest by last use. */
static struct session *next_victim(struct user_state *state, const struct counted *counted,
                                   int64_t overflow)
{
    struct session *victim = NULL;
    int64_t lowest = INT64_MAX;
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        int64_t rank = overflow == OVERFLOW_EVICT_IDLEST ? session->last_seen_s * 1000
                                                         : token_session_created_ms(session->id);
        if (!counts(counted, state, i) || rank >= lowest)
            continue;
        lowest = rank;
        victim = session;
    }
    return victim;
}

static enum err make_room(struct user_state *state, const struct counted *counted, int64_t most,
                          int64_t overflow)
{
    size_t allowed = (size_t)most;
    if (count_remaining(state, counted) < allowed)
        return ERR_OK;
    if (overflow == OVERFLOW_REJECT)
        return ERR_DEVICE_LIMIT;
    size_t keep = overflow == OVERFLOW_EVICT_ALL ? 0 : allowed - 1;
    while (count_remaining(state, counted) > keep)
        next_victim(state, counted, overflow)->ended = true;
    return ERR_OK;
}

enum err rules_admit(struct user_state *state, const struct device *device,
                     const struct policy *policy, int64_t now_ms)
{
    bool alive[1 + state->session_count];
    memset(alive, 0, sizeof(alive));
    for (size_t i = 0; i < state->session_count; i++) {
        struct session *session = &state->sessions[i];
        alive[i] = !rules_dead(&state->user, session, policy, now_ms).data;
        if (alive[i] && is_displaced(session, device, (enum exclusive)policy->exclusive))
            session->ended = true;
    }
    struct counted all = {alive, NULL}, of_type = {alive, &device->type};
    enum err err = ERR_OK;
    if (policy->max_devices_of_type > 0)
        err = make_room(state, &of_type, policy->max_devices_of_type, policy->overflow);
    return err == ERR_OK ? make_room(state, &all, policy->max_devices, policy->overflow) : err;
}

bool rules_device_is_new(const struct user_state *state, struct text device_id)
{
    if (device_id.length == 0)
        return true;
    for (size_t i = 0; i < state->session_count; i++)
        if (text_equal(state->sessions[i].device_id, device_id))
            return false;
    return true;
}
