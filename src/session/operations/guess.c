/* An update of the count only, and the refusal that follows from it. */
#include "guess.h"

#include <assert.h>

#include "session/engine/user_update.h"
#include "session/model/rules.h"

struct guess {
    struct user_update change;
    struct waiter *waiter;
};

static enum update_decision decide_guess(struct user_update *change, struct user_state *state,
                                         struct edit *edit)
{
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    guesses_note(&state->guesses, operation->now_ms / 1000);
    edit_set_guesses(edit, &state->guesses);
    rules_tidy(edit, state, NULL, &policy, operation->now_ms);
    return UPDATE_WRITE;
}

static void finish_guess(struct user_update *change)
{
    waiter_go_on(container_of(change, struct guess, change)->waiter);
}

static const struct user_update_ops guess_ops = {decide_guess, finish_guess};

void guess_note(struct operation *operation, const struct user_tag *owner, struct waiter *waiter)
{
    assert(waiter->then && operation->tenancy);
    struct guess *work = arena_zalloc(operation->arena, sizeof(*work));
    user_update_init(&work->change, &guess_ops, operation, owner);
    work->waiter = waiter;
    user_update_begin(&work->change);
}

bool guess_refuses(struct operation *operation, const struct guesses *guesses,
                   const struct policy *policy)
{
    int64_t left_s = guesses_closed_s(guesses, operation->now_ms / 1000);
    if (policy->verify_method != VERIFY_OTP || left_s == 0)
        return false;
    operation_refuse(operation, ERR_TOO_MANY_GUESSES, (struct text){0});
    operation->out.retry_after_s = left_s;
    return true;
}
