/* Challenges of active sessions, and the updates that widen a session's bindings. */
#include "step_up.h"

#include <assert.h>
#include <string.h>

#include "challenge.h"
#include "clock.h"
#include "guess.h"
#include "location.h"
#include "metrics.h"
#include "ratelimit.h"
#include "session/engine/rotation.h"
#include "session/engine/service.h"
#include "session/engine/tenant.h"
#include "session/engine/user_update.h"
#include "session/index/index.h"
#include "session/model/rules.h"
#include "session/model/session_json.h"
#include "session/model/strength.h"

/* --- the body --- */

struct body {
    const uint8_t *session_id;
    struct text tenant, user_id, items;
};

static void put_short(struct buffer *out, struct text text)
{
    assert(text.length <= UINT8_MAX);
    buffer_add_char(out, (char)text.length);
    buffer_add_text(out, text);
}

static bool take_short(struct text *rest, struct text *ret)
{
    size_t length = rest->length > 0 ? (uint8_t)rest->data[0] : 0;
    if (rest->length < 1 + length)
        return false;
    *ret = (struct text){rest->data + 1, length};
    *rest = (struct text){rest->data + 1 + length, rest->length - 1 - length};
    return true;
}

static bool read_body(struct text bytes, struct body *ret)
{
    *ret = (struct body){.session_id = (const uint8_t *)bytes.data};
    if (bytes.length < SESSION_ID)
        return false;
    struct text rest = {bytes.data + SESSION_ID, bytes.length - SESSION_ID};
    if (!take_short(&rest, &ret->tenant) || !take_short(&rest, &ret->user_id))
        return false;
    ret->items = rest;
    return true;
}

void step_up_note(struct operation *operation, struct text bytes)
{
    struct body body;
    if (!read_body(bytes, &body))
        return;
    operation->facts.tenant = body.tenant;
    operation->facts.user_id = body.user_id;
    operation->facts.session_id = operation_session_id(operation, body.session_id);
}

/* --- offering --- */

struct step_up {
    struct waiter waiter; /* of the offer ... */
    struct waiter *after; /* ... and the waiter for all of it */
    struct operation *operation;
    struct user_tag owner;
    uint8_t id[SESSION_ID];
    struct text body;
};

static void step_up_offered(struct waiter *waiter)
{
    const struct step_up *work = container_of(waiter, struct step_up, waiter);
    if (work->operation->out.err == ERR_OK)
        work->operation->out.err = ERR_STEP_UP_REQUIRED;
    waiter_go_on(work->after);
}

/* The holder of a token may claim a thousand locations, so challenges are limited. Half may begin
 * at once and half until those expire, so there are never more. */
static bool may_begin(struct operation *operation, const struct user_tag *owner)
{
    static const struct rate rate = {CHALLENGES_PENDING / 2, CHALLENGE_SECONDS * 1000,
                                     CHALLENGES_PENDING / 2};
    struct ratelimit *offers = operation->context->worker->service->offers;
    struct rate_verdict verdict =
        ratelimit_take(offers, owner, sizeof(*owner), rate, clock_monotonic_ns());
    if (verdict.allowed)
        return true;
    metrics_add(METRIC_LIMITED_CHALLENGES, 1);
    operation_refuse(operation, ERR_TOO_MANY_CHALLENGES, (struct text){0});
    operation->out.retry_after_s = (verdict.retry_ms + 999) / 1000;
    return false;
}

static void offer_new(struct step_up *work)
{
    assert(work->operation->out.err == ERR_OK);
    struct operation *operation = work->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    struct challenge challenge = {.kind = CHALLENGE_SESSION,
                                  .method = (enum verify_method)policy.verify_method,
                                  .issued_ms = operation->now_ms,
                                  .body = work->body};
    crypto_random(challenge.secret, SECRET_LENGTH);
    challenge_offer(operation, &work->owner, work->id, &challenge,
                    waiter_of(&work->waiter, step_up_offered));
    crypto_wipe(challenge.secret, SECRET_LENGTH);
}

/* Offers a pending challenge if there is one: repeating the request begins nothing. */
static void offer_new_if_none(struct waiter *waiter)
{
    struct step_up *work = container_of(waiter, struct step_up, waiter);
    struct operation *operation = work->operation;
    bool none = operation->out.err == ERR_CHALLENGE_OVER;
    if (none)
        operation->out.err = ERR_OK;
    if (none && may_begin(operation, &work->owner))
        offer_new(work);
    else
        step_up_offered(waiter);
}

/* One id for each session and claimed context. So a client that asks a hundred times gets one
 * challenge, from whichever addresses of its network. */
static void name_challenge(const struct operation *operation, const struct user_tag *owner,
                           const uint8_t session_id[SESSION_ID],
                           const struct client_context *context, unsigned breaches,
                           uint8_t ret[SESSION_ID])
{
    struct client_context place = *context;
    SCOPED(buffer_free) struct buffer items = {0};
    place.address = location_network(operation->conf, &context->address);
    binding_print(&place, breaches, &items);
    const struct text parts[] = {{(const char *)owner, sizeof(*owner)},
                                 {(const char *)session_id, SESSION_ID},
                                 buffer_text(&items)};
    crypto_keyed_hash(operation->context->keyring, CRYPTO_CHALLENGE, parts, 3, ret, SESSION_ID);
}

void step_up_offer(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   unsigned breaches, struct waiter *waiter)
{
    assert(waiter->then && breaches != 0);
    struct step_up *work = arena_zalloc(operation->arena, sizeof(*work));
    struct buffer items = {0}, body = {0};
    *work = (struct step_up){.after = waiter, .operation = operation, .owner = *owner};
    binding_print(context, breaches, &items);
    name_challenge(operation, owner, session_id, context, breaches, work->id);
    buffer_add(&body, session_id, SESSION_ID);
    put_short(&body, operation->facts.tenant);
    put_short(&body, operation->facts.user_id);
    buffer_add_text(&body, buffer_text(&items));
    work->body = arena_copy(operation->arena, buffer_text(&body));
    buffer_free(&items);
    buffer_free(&body);
    challenge_offer_again(operation, owner, work->id, waiter_of(&work->waiter, offer_new_if_none));
}

/* --- widening --- */

struct widening {
    struct user_update change;
    struct waiter waiter;
    uint8_t session_id[SESSION_ID];
    struct text items;

    /* For an adoption. */
    struct client_context context;
    struct adoption *adoption;

    /* For a verification. */
    int64_t issued_ms; /* of the challenge */
    struct authentication stated;
    struct fresh_secrets secrets; /* made if it raises the session's strength */
    struct issued_pair *pair;
    const struct session *renewed;
};

static enum update_decision refuse_widening(struct operation *operation, enum err err,
                                            struct text reason)
{
    operation_refuse(operation, err, reason);
    return UPDATE_DONE;
}

/* The session if it is active; else NULL, with the operation refused. */
static struct session *find_active(const struct widening *work, const struct user_state *state,
                                   const struct policy *policy, enum err err)
{
    struct operation *operation = work->change.operation;
    struct session *session = state_find(state, work->session_id);
    if (!session || session->ended) {
        bool foreign = state_is_foreign(state, work->session_id);
        operation_refuse(operation, foreign ? ERR_SEAL_KEY_UNKNOWN : err, TEXT(REASON_UNKNOWN));
        return NULL;
    }
    operation_note_session(operation, session);
    enum end_cause cause = rules_end_cause(&state->user, session, policy, operation->now_ms);
    if (cause == CAUSE_NONE)
        return session;
    if (work->adoption)
        work->adoption->cause = cause;
    operation_refuse(operation, err, reasons_of_cause(cause));
    return NULL;
}

static struct widening *begin_widening(struct operation *operation, const struct user_tag *owner,
                                       const uint8_t session_id[SESSION_ID],
                                       const struct user_update_ops *ops)
{
    assert(operation->out.err == ERR_OK);
    struct widening *work = arena_zalloc(operation->arena, sizeof(*work));
    memcpy(work->session_id, session_id, SESSION_ID);
    user_update_init(&work->change, ops, operation, owner);
    return work;
}

/* --- adopting an address --- */

static enum update_decision decide_adoption(struct user_update *change, struct user_state *state,
                                            struct edit *edit)
{
    const struct widening *work = container_of(change, struct widening, change);
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    struct session *session = find_active(work, state, &policy, ERR_TOKEN_INVALID);
    if (!session)
        return UPDATE_DONE;
    struct text items = binding_items(&session->record, operation->arena);
    if (binding_breaches(operation->conf, items, &work->context) & (BREACH_IP | BREACH_FAMILY))
        return refuse_widening(operation, ERR_TOKEN_INVALID, TEXT(REASON_BINDING));
    binding_add(operation->conf, &session->record, work->items, operation->arena);
    edit_set_session(edit, session->id, &session->record);
    rules_tidy(edit, state, NULL, &policy, operation->now_ms);
    return UPDATE_WRITE;
}

static void finish_adoption(struct user_update *change)
{
    waiter_go_on(&container_of(change, struct widening, change)->adoption->waiter);
}

static const struct user_update_ops adoption_ops = {decide_adoption, finish_adoption};

void step_up_adopt(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct client_context *context,
                   struct adoption *adoption, void (*then)(struct waiter *waiter))
{
    struct widening *work = begin_widening(operation, owner, session_id, &adoption_ops);
    struct buffer items = {0};
    work->context = *context;
    work->adoption = adoption;
    *adoption = (struct adoption){.waiter.then = then};
    binding_print(context, BREACH_IP, &items);
    work->items = arena_copy(operation->arena, buffer_text(&items));
    buffer_free(&items);
    user_update_begin(&work->change);
}

/* --- accepting a verified context --- */

static bool is_over(const struct widening *work, const struct user_state *state,
                    const struct policy *policy)
{
    struct operation *operation = work->change.operation;
    if (rules_is_cut_off(work->issued_ms, state->user.not_before_ms))
        operation_refuse(operation, ERR_CHALLENGE_OVER, TEXT(REASON_REVOKED));
    else
        return guess_refuses(operation, &state->guesses, policy);
    return true;
}

/* Records what the verification adds. True if that is more than the session had: a holder of its
 * tokens from before must not gain by it. */
static bool raises_strength(const struct widening *work, struct record *record)
{
    struct operation *operation = work->change.operation;
    struct authentication before = session_json_authentication(record->session_json);
    struct authentication after = strength_verified(&before, &work->stated);
    bool raises = !record->second_factor || after.auth_s != before.auth_s ||
                  !text_equal(after.acr, before.acr) || after.amr != before.amr;
    record->second_factor = true;
    if (operation_keeps_authentication(operation))
        record->session_json =
            session_json_with_authentication(operation->arena, record->session_json, &after);
    return raises || work->secrets.made;
}

static enum update_decision decide_acceptance(struct user_update *change, struct user_state *state,
                                              struct edit *edit)
{
    struct widening *work = container_of(change, struct widening, change);
    struct operation *operation = change->operation;
    struct policy policy;
    operation_policy(operation, &policy);
    struct session *session = find_active(work, state, &policy, ERR_CHALLENGE_OVER);
    if (!session || is_over(work, state, &policy))
        return UPDATE_DONE;
    struct rotation rotation = {operation, &change->codec.owner, session, NULL};
    work->renewed = session;
    if (user_update_wrote(change, session->id)) {
        if (work->secrets.made)
            rotation_reprint(&rotation, &work->secrets, &policy, work->pair);
        else
            rotation_repeat(&rotation, &policy, work->pair);
        operation->out.durability = DURABILITY_ACCEPTED;
        edit->invalidates = true;
        return UPDATE_RESOLVED;
    }
    edit_forget_guesses(state, edit);
    binding_add(operation->conf, &session->record, work->items, operation->arena);
    if (raises_strength(work, &session->record))
        rotation_renew(&rotation, &work->secrets, state, &policy, edit, work->pair);
    else
        rotation_advance(&rotation, state, &policy, edit, work->pair);
    return UPDATE_WRITE;
}

static void finish_acceptance(struct user_update *change)
{
    struct widening *work = container_of(change, struct widening, change);
    struct operation *operation = change->operation;
    if (operation->out.err == ERR_OK)
        index_note(operation, &change->codec.owner, work->renewed);
    crypto_wipe(&work->secrets, sizeof(work->secrets));
    naming_done(operation);
}

static const struct user_update_ops acceptance_ops = {decide_acceptance, finish_acceptance};

static void accept_with_tenant(struct waiter *waiter)
{
    struct widening *work = container_of(waiter, struct widening, waiter);
    struct operation *operation = work->change.operation;
    if (operation->out.err != ERR_OK ||
        tenant_refuses(operation, work->session_id, ERR_CHALLENGE_OVER))
        naming_done(operation);
    else
        user_update_begin(&work->change);
}

void step_up_accept(struct operation *operation, const struct user_tag *owner, int64_t issued_ms,
                    struct text bytes, const struct authentication *stated, struct issued_pair *ret)
{
    struct body body;
    if (!read_body(bytes, &body)) {
        operation->out.err = ERR_CHALLENGE_OVER;
        naming_done(operation);
        return;
    }
    struct widening *work = begin_widening(operation, owner, body.session_id, &acceptance_ops);
    work->items = body.items;
    work->issued_ms = issued_ms;
    work->stated = *stated;
    work->pair = ret;
    tenant_enter(operation, owner->tenant, waiter_of(&work->waiter, accept_with_tenant));
}
