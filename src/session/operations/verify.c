/* Answers a challenge: checks the kind, counts an attempt, continues the login or step-up behind
 * it. */
#include <assert.h>
#include <string.h>

#include "challenge.h"
#include "guess.h"
#include "login_request.h"
#include "metrics.h"
#include "session/engine/operation.h"
#include "session/engine/tenant.h"
#include "step_up.h"

struct verification {
    struct challenge_try attempt;
    struct verify *verify;
    struct waiter waiter;
};

static void end_verification(struct verification *work)
{
    struct operation *operation = &work->verify->login.base;
    crypto_wipe(work->attempt.challenge.secret, SECRET_LENGTH);
    crypto_wipe(&work->attempt.token, sizeof(work->attempt.token));
    naming_done(operation);
}

/* Notes the names in the challenge's body for the audit line. */
static bool open_body(struct verification *work)
{
    struct verify *verify = work->verify;
    struct operation *operation = &verify->login.base;
    const struct challenge *challenge = &work->attempt.challenge;
    verify->of_session = challenge->kind == CHALLENGE_SESSION;
    if (verify->of_session) {
        step_up_note(operation, challenge->body);
        return true;
    }
    if (!login_request_read(challenge->body, operation->arena, &verify->login))
        return false;
    operation->facts.tenant = verify->login.tenant;
    operation->facts.user_id = verify->login.user_id;
    operation->facts.device_id = verify->login.device.id;
    operation->facts.device_type = verify->login.device.type;
    return true;
}

/* The login and its verification are one authentication: a member that this call states replaces
 * the login's. */
static void add_stated(struct authentication *authentication, const struct authentication *stated)
{
    if (stated->auth_s > 0)
        authentication->auth_s = stated->auth_s;
    if (stated->acr.data)
        authentication->acr = stated->acr;
    if (stated->amr != 0)
        authentication->amr = stated->amr;
}

/* Wipes the secrets, which are no longer needed, and starts the operation behind the challenge,
 * which ends this one. */
static void continue_verified(struct challenge_try *attempt)
{
    struct verification *work = container_of(attempt, struct verification, attempt);
    struct verify *verify = work->verify;
    struct operation *operation = &verify->login.base;
    if (operation->out.err != ERR_OK) {
        end_verification(work);
        return;
    }
    metrics_add(METRIC_VERIFICATIONS, 1);
    crypto_wipe(attempt->challenge.secret, SECRET_LENGTH);
    crypto_wipe(attempt->token.secret, SECRET_LENGTH);
    if (verify->of_session) {
        step_up_accept(operation, &attempt->token.owner, attempt->challenge.issued_ms,
                       attempt->challenge.body, &verify->stated, &verify->login.pair);
        return;
    }
    verify->login.second_factor = true;
    add_stated(&verify->login.authentication, &verify->stated);
    verify->login.verified_ms = attempt->challenge.issued_ms;
    memcpy(verify->login.verified_id, attempt->token.session_id, SESSION_ID);
    session_login(&verify->login);
}

static void failed(struct waiter *waiter)
{
    struct verification *work = container_of(waiter, struct verification, waiter);
    struct operation *operation = &work->verify->login.base;
    metrics_add(METRIC_VERIFICATIONS_FAILED, 1);
    operation->out.durability = DURABILITY_NONE;
    operation_refuse(operation, ERR_VERIFICATION_FAILED, (struct text){0});
    end_verification(work);
}

static void count_with_tenant(struct waiter *waiter)
{
    struct verification *work = container_of(waiter, struct verification, waiter);
    struct operation *operation = &work->verify->login.base;
    if (operation->out.err == ERR_OK)
        guess_note(operation, &work->attempt.token.owner, waiter_of(waiter, failed));
    else
        failed(waiter);
}

/* A wrong code also counts for the user. If that count cannot be written, the outcome stays: the
 * attempt is used up. */
static void fail_attempt(struct verification *work)
{
    assert(work->verify->login.base.out.err == ERR_OK);
    struct verify *verify = work->verify;
    struct operation *operation = &verify->login.base;
    verify->attempts_left = work->attempt.left;
    if (work->attempt.challenge.method == VERIFY_OTP)
        tenant_enter(operation, work->attempt.token.owner.tenant,
                     waiter_of(&work->waiter, count_with_tenant));
    else
        failed(&work->waiter);
}

static void judge_try(struct challenge_try *attempt)
{
    struct verification *work = container_of(attempt, struct verification, attempt);
    struct verify *verify = work->verify;
    struct operation *operation = &verify->login.base;
    if (operation->out.err != ERR_OK) {
        end_verification(work);
        return;
    }
    if (!challenge_is_solved(operation->context->keyring, &attempt->token.owner,
                             &attempt->challenge, verify->code, verify->verified)) {
        fail_attempt(work);
        return;
    }
    attempt->then = continue_verified;
    challenge_claim(attempt);
}

/* An answer of the wrong method is a service's mistake, not a guess. */
static bool is_right_kind(const struct verification *work)
{
    struct operation *operation = &work->verify->login.base;
    bool wants_code = work->attempt.challenge.method == VERIFY_OTP;
    if (wants_code == (work->verify->code.data != NULL))
        return true;
    operation->out.err = ERR_BODY_INVALID;
    operation->out.detail = wants_code
                                ? TEXT("The method of this challenge is otp: answer with \"code\"")
                                : TEXT("The method of this challenge is external: answer with "
                                       "\"verified\"");
    return false;
}

static void take_try(struct challenge_try *attempt)
{
    struct verification *work = container_of(attempt, struct verification, attempt);
    struct operation *operation = &work->verify->login.base;
    if (operation->out.err == ERR_OK && !open_body(work))
        operation->out.err = ERR_CHALLENGE_OVER;
    if (operation->out.err != ERR_OK || !is_right_kind(work)) {
        end_verification(work);
        return;
    }
    attempt->then = judge_try;
    challenge_take(attempt);
}

void session_verify(struct verify *verify)
{
    struct operation *operation = &verify->login.base;
    struct verification *work = arena_zalloc(operation->arena, sizeof(*work));
    work->verify = verify;
    work->attempt.operation = operation;
    work->attempt.then = take_try;
    if (operation_open_token(operation, TOKEN_CHALLENGE, verify->challenge_id, verify->tenant,
                             verify->tenant_bound, ERR_CHALLENGE_OVER, &work->attempt.token))
        challenge_look(&work->attempt);
    else
        naming_done(operation);
}
