/* Attributes of a session, a member of its session JSON: read, replaced or patched. A change is a
 * user update like any other, so parallel patches are never lost. It raises the epoch though no
 * token dies, so that other nodes re-read the session. Each change costs them one read per cached
 * session of this user, as a refresh does. */
#include <assert.h>

#include "json.h"
#include "session/engine/operation.h"
#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"

struct attributes_change {
    struct user_update change;
    struct attributes *attributes;
    struct waiter waiter;
    struct token token;
};

static void note_result(struct attributes_change *work, struct text json)
{
    struct attributes *attributes = work->attributes;
    const uint8_t *id = work->token.session_id;
    const struct text parts[] = {{(const char *)id, SESSION_ID}, json};
    attributes->json = json;
    etag_print(attributes->base.context->keyring, parts, 2, attributes->etag);
}

static bool refuse_attributes(struct operation *operation, enum err err, struct text detail)
{
    operation_refuse(operation, err, (struct text){0});
    operation->out.detail = detail;
    return false;
}

static bool apply_patch(struct attributes_change *work, struct text present, struct text *ret)
{
    struct operation *operation = &work->attributes->base;
    SCOPED(buffer_free) struct buffer patched = {0}, error = {0};
    bool good = json_merge_patch(present, work->attributes->given, &patched, &error);
    if (good)
        *ret = arena_copy(operation->arena, buffer_text(&patched));
    else
        refuse_attributes(operation, ERR_BODY_INVALID,
                          arena_copy(operation->arena, buffer_text(&error)));
    return good;
}

/* The new attributes. False if the operation was refused. */
static bool make_next(struct attributes_change *work, struct text present, struct text *ret)
{
    assert(work->attributes->action != ATTRIBUTES_GET);
    struct attributes *attributes = work->attributes;
    struct operation *operation = &attributes->base;
    /* The write found was already checked against the condition when it was sent. */
    if (!user_update_wrote(&work->change, work->token.session_id) &&
        !etag_holds(&attributes->if_match, attributes->etag))
        return refuse_attributes(operation, ERR_PRECONDITION_FAILED, (struct text){0});
    *ret = attributes->given;
    if (attributes->action == ATTRIBUTES_PATCH && !apply_patch(work, present, ret))
        return false;
    if (ret->length > ATTRIBUTES_MAX)
        return refuse_attributes(
            operation, ERR_TOO_LARGE,
            arena_format(operation->arena,
                         "The attributes of a session take at most %d bytes of "
                         "compact JSON, these would take %zu",
                         ATTRIBUTES_MAX, ret->length));
    return true;
}

static enum update_decision decide_attributes(struct user_update *change, struct user_state *state,
                                              struct edit *edit)
{
    struct attributes_change *work = container_of(change, struct attributes_change, change);
    struct operation *operation = change->operation;
    struct text next;
    struct session *session = operation_authenticate(operation, state, &work->token);
    if (!session)
        return UPDATE_DONE;
    struct text present = session_json_attributes(session->record.session_json);
    note_result(work, present);
    if (work->attributes->action == ATTRIBUTES_GET || !make_next(work, present, &next))
        return UPDATE_DONE;
    /* Written even if nothing differs: the caller may repeat the call because the epoch was not
     * raised. */
    struct policy policy;
    operation_policy(operation, &policy);
    struct text session_json =
        session_json_with_attributes(operation->arena, session->record.session_json, next);
    if (!session_json_fits(operation->arena, session_json, policy.limit_session_bytes,
                           &operation->out.detail)) {
        operation_refuse(operation, ERR_TOO_LARGE, (struct text){0});
        return UPDATE_DONE;
    }
    session->record.session_json = session_json;
    edit_set_session(edit, session->id, &session->record);
    edit->invalidates = true;
    rules_tidy(edit, state, session, &policy, operation->now_ms);
    note_result(work, next);
    return UPDATE_WRITE;
}

static void end_attributes(struct attributes_change *work)
{
    crypto_wipe(&work->token, sizeof(work->token));
    naming_done(&work->attributes->base);
}

static void attributes_update_done(struct user_update *change)
{
    end_attributes(container_of(change, struct attributes_change, change));
}

static const struct user_update_ops attributes_ops = {decide_attributes, attributes_update_done};

static void attributes_with_tenant(struct waiter *waiter)
{
    struct attributes_change *work = container_of(waiter, struct attributes_change, waiter);
    struct operation *operation = &work->attributes->base;
    if (operation->out.err != ERR_OK ||
        tenant_refuses(operation, work->token.session_id, ERR_TOKEN_INVALID))
        end_attributes(work);
    else
        user_update_begin(&work->change);
}

void session_attributes(struct attributes *attributes)
{
    struct operation *operation = &attributes->base;
    struct attributes_change *work = arena_zalloc(operation->arena, sizeof(*work));
    struct token *token = &work->token;
    if (!operation_open_token(operation, TOKEN_ACCESS, attributes->token, attributes->tenant,
                              attributes->tenant_bound, ERR_TOKEN_INVALID, token) ||
        revocation_refuses(operation, token, ERR_TOKEN_INVALID)) {
        crypto_wipe(token, sizeof(*token));
        naming_done(operation);
        return;
    }
    work->attributes = attributes;
    user_update_init(&work->change, &attributes_ops, operation, &token->owner);
    tenant_enter(operation, token->owner.tenant, waiter_of(&work->waiter, attributes_with_tenant));
}
