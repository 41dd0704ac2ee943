/* After a re-authentication: the session knows it, and goes on with a fresh pair. A holder of the
 * tokens before gains nothing by it (session fixation). */
#include <assert.h>

#include "metrics.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/rotation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"
#include "session/model/strength.h"

struct renewal {
    struct user_update change;
    struct authenticated *authenticated;
    struct waiter waiter;
    struct token token;
    struct fresh_secrets secrets;
    const struct session *renewed;
};

static enum update_decision decide_renewal(struct user_update *change, struct user_state *state,
                                           struct edit *edit)
{
    struct renewal *work = container_of(change, struct renewal, change);
    struct authenticated *authenticated = work->authenticated;
    struct operation *operation = change->operation;
    struct session *session = state_find(state, work->token.session_id);
    struct policy policy;
    operation_policy(operation, &policy);
    bool wrote = session && user_update_wrote(change, session->id);
    if (!wrote)
        session = operation_authenticate(operation, state, &work->token);
    if (!session)
        return UPDATE_DONE;
    struct rotation rotation = {operation, &change->codec.owner, session, NULL};
    work->renewed = session;
    if (wrote) {
        rotation_reprint(&rotation, &work->secrets, &policy, &authenticated->pair);
        operation->out.durability = DURABILITY_ACCEPTED;
        edit->invalidates = true;
        return UPDATE_RESOLVED;
    }
    struct record *record = &session->record;
    record->second_factor |= (authenticated->authentication.amr & strength_mfa()) != 0;
    if (operation_keeps_authentication(operation))
        record->session_json = session_json_with_authentication(
            operation->arena, record->session_json, &authenticated->authentication);
    rotation_renew(&rotation, &work->secrets, state, &policy, edit, &authenticated->pair);
    return UPDATE_WRITE;
}

static void end_renewal(struct renewal *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    crypto_wipe(&work->secrets, sizeof(work->secrets));
    naming_done(&work->authenticated->base);
}

static void renewal_update_done(struct user_update *change)
{
    struct renewal *work = container_of(change, struct renewal, change);
    struct operation *operation = change->operation;
    if (operation->out.err == ERR_OK) {
        index_note(operation, &change->codec.owner, work->renewed);
        metrics_add(METRIC_REAUTHENTICATIONS, 1);
    }
    end_renewal(work);
}

static const struct user_update_ops renewal_ops = {decide_renewal, renewal_update_done};

static void renew_with_tenant(struct waiter *waiter)
{
    struct renewal *work = container_of(waiter, struct renewal, waiter);
    struct operation *operation = &work->authenticated->base;
    if (operation->out.err != ERR_OK ||
        tenant_refuses(operation, work->token.session_id, ERR_TOKEN_INVALID))
        end_renewal(work);
    else
        user_update_begin(&work->change);
}

void session_authenticated(struct authenticated *authenticated)
{
    struct operation *operation = &authenticated->base;
    struct renewal *work = arena_zalloc(operation->arena, sizeof(*work));
    struct token *token = &work->token;
    if (!operation_open_token(operation, TOKEN_ACCESS, authenticated->token, authenticated->tenant,
                              authenticated->tenant_bound, ERR_TOKEN_INVALID, token) ||
        revocation_refuses(operation, token, ERR_TOKEN_INVALID)) {
        crypto_wipe(token, sizeof(*token));
        naming_done(operation);
        return;
    }
    if (authenticated->authentication.auth_s == 0)
        authenticated->authentication.auth_s = operation->now_ms / 1000;
    work->authenticated = authenticated;
    user_update_init(&work->change, &renewal_ops, operation, &token->owner);
    tenant_enter(operation, token->owner.tenant, waiter_of(&work->waiter, renew_with_tenant));
}
