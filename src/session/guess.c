/* A change of nothing but the count, and what follows from the count. */
#include "guess.h"

#include "change.h"
#include "rules.h"

struct guess {
    struct change change;
    void (*then)(struct operation *operation);
};

static enum verdict decide_guess(struct change *change, struct user_state *state, struct edit *edit)
{
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    guesses_note(&state->guesses, operation->now_ms / 1000);
    edit_set_guesses(edit, &state->guesses);
    rules_settle(edit, state, NULL, &policy, operation->now_ms);
    return CHANGE_WRITE;
}

static void finish_guess(struct change *change)
{
    const struct guess *work = (const struct guess *)change;
    work->then(change->operation);
}

void guess_note(struct operation *operation, const struct user_tag *owner,
                void (*then)(struct operation *operation))
{
    struct guess *work = arena_zalloc(operation->arena, sizeof(*work));
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, owner);
    work->change.decide = decide_guess;
    work->change.finish = finish_guess;
    work->then = then;
    change_begin(&work->change);
}

bool guess_refuses(struct operation *operation, const struct guesses *guesses,
                   const struct policy *policy)
{
    int64_t left_s = guesses_closed_s(guesses, operation->now_ms / 1000);
    if (policy->verify_method != VERIFY_OTP || left_s == 0)
        return false;
    operation_refuse(operation, ERR_TOO_MANY_GUESSES, (struct text){0});
    operation->retry_after_s = left_s;
    return true;
}
