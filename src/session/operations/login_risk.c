/* Compares a login with the user's known devices and locations. */
#include "login_risk.h"

#include <assert.h>

#include "guess.h"
#include "location.h"
#include "session/engine/binding.h"
#include "session/engine/operation.h"
#include "session/model/rules.h"

/* The hashes that identify a login, if present. */
struct traits {
    bool has_device, has_place;
    uint8_t device[CONTEXT_HASH], place[CONTEXT_HASH];
    char key[LOCATION_KEY_MAX];
    struct text location_key;
};

static void read_traits(const struct login *login, struct traits *ret)
{
    const struct session_context *context = login->base.context;
    const struct device *device = &login->device;
    struct user_tag owner;
    struct ip_address address;
    token_tag_user(context->keyring, login->tenant, login->user_id, &owner);
    *ret = (struct traits){.has_device = device->id.length > 0 || device->fingerprint.length > 0};
    if (device->id.length > 0)
        contexts_hash(context->keyring, &owner, CONTEXT_DEVICE, device->id, ret->device);
    else if (ret->has_device)
        contexts_hash(context->keyring, &owner, CONTEXT_FINGERPRINT, device->fingerprint,
                      ret->device);
    ret->has_place = ip_parse(login->ip, &address);
    if (!ret->has_place)
        return;
    ret->location_key = location_key(context->locations, login->base.conf, &address, ret->key);
    contexts_hash(context->keyring, &owner, CONTEXT_LOCATION, ret->location_key, ret->place);
}

static bool has_fingerprint(const struct user_state *state, const struct traits *traits)
{
    for (size_t i = 0; i < state->session_count; i++)
        if (binding_has_fingerprint(state->sessions[i].record.contexts, traits->device))
            return true;
    return false;
}

static bool is_new_device(const struct login *login, const struct user_state *state,
                          const struct traits *traits)
{
    if (!traits->has_device)
        return true;
    if (contexts_have(&state->contexts, traits->device))
        return false;
    return login->device.id.length > 0 ? admit_device_is_new(state, login->device.id)
                                       : !has_fingerprint(state, traits);
}

static bool is_of_place(const struct login *login, const struct session *session,
                        const struct traits *traits)
{
    struct ip_address address;
    char key[LOCATION_KEY_MAX];
    return ip_parse(session->record.ip, &address) &&
           text_equal(location_key(login->base.context->locations, login->base.conf, &address, key),
                      traits->location_key);
}

void login_risk_judge(struct login *login, const struct user_state *state)
{
    struct traits traits;
    read_traits(login, &traits);
    login->new_device = is_new_device(login, state, &traits);
    login->new_location = traits.has_place && !contexts_have(&state->contexts, traits.place);
    login->first_location = state->contexts.count == 0;
    for (size_t i = 0; i < state->session_count; i++) {
        const struct session *session = &state->sessions[i];
        login->first_location = login->first_location && !session->record.ip.data;
        if (login->new_location && is_of_place(login, session, &traits))
            login->new_location = false;
    }
}

bool login_risk_stops(struct login *login, const struct user_state *state,
                      const struct policy *policy, int64_t cutoff_ms)
{
    assert(login->base.out.err == ERR_OK);
    bool asked = (login->new_device && policy->verify_on & VERIFY_NEW_DEVICE) ||
                 (login->new_location && policy->verify_on & VERIFY_NEW_LOCATION);
    bool verified = login->verified_ms > 0;
    asked = asked && !login->second_factor;
    if ((asked || verified) && guess_refuses(&login->base, &state->guesses, policy))
        return true;
    if (verified && rules_is_cut_off(login->verified_ms, cutoff_ms))
        operation_refuse(&login->base, ERR_CHALLENGE_OVER, (struct text){0});
    else if (asked)
        operation_refuse(&login->base, ERR_VERIFICATION_REQUIRED, (struct text){0});
    else
        return false;
    return true;
}

void login_risk_remember(const struct login *login, struct user_state *state,
                         const struct policy *policy, struct edit *edit)
{
    int64_t now_s = login->base.now_ms / 1000;
    struct traits traits;
    if (policy->verify_on == 0)
        return;
    if (login->verified_ms > 0)
        edit_forget_guesses(state, edit);
    if (state->contexts_foreign && !login->second_factor)
        return;
    read_traits(login, &traits);
    state->contexts_foreign = false;
    contexts_forget(&state->contexts, operation_age_ms(&login->base) / 1000);
    if (traits.has_device)
        contexts_note(&state->contexts, traits.device, now_s);
    if (traits.has_place)
        contexts_note(&state->contexts, traits.place, now_s);
    if (state->contexts.count > 0)
        edit_set_contexts(edit, &state->contexts);
}
