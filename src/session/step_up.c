/* Challenges of living sessions, and the change that widens what a session is bound to. */
#include "step_up.h"

#include <assert.h>
#include <string.h>

#include "challenge.h"
#include "change.h"
#include "guess.h"
#include "place.h"
#include "rules.h"
#include "tenant.h"

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
    operation->tenant = body.tenant;
    operation->user_id = body.user_id;
    operation->session_id = operation_session_id(operation, body.session_id);
}

/* --- offering --- */

struct step_up {
    void *domain; /* the operation's own, meanwhile */
    void (*then)(struct operation *operation);
};

static void offered(struct operation *operation)
{
    const struct step_up *work = operation->domain;
    operation->domain = work->domain;
    if (operation->err == ERR_OK)
        operation->err = ERR_STEP_UP_REQUIRED;
    work->then(operation);
}

/* One id for each session and place, so that a client that asks a hundred times is asked for one
 * code, from whichever addresses of its network. */
static void name_challenge(const struct operation *operation, const struct user_tag *owner,
                           const uint8_t session_id[SESSION_ID],
                           const struct shown_context *context, uint8_t ret[SESSION_ID])
{
    struct shown_context place = *context;
    struct buffer items = {0};
    place.address = place_network(operation->conf, &context->address);
    binding_print(&place, &items);
    const struct text parts[] = {{(const char *)owner, sizeof(*owner)},
                                 {(const char *)session_id, SESSION_ID},
                                 buffer_text(&items)};
    crypto_keyed_hash(operation->context->keyring, CRYPTO_CHALLENGE, parts, 3, ret, SESSION_ID);
    buffer_free(&items);
}

void step_up_offer(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct shown_context *context,
                   void (*then)(struct operation *operation))
{
    struct step_up *work = arena_zalloc(operation->arena, sizeof(*work));
    struct challenge challenge = {.kind = CHALLENGE_SESSION, .issued_ms = operation->now_ms};
    struct buffer items = {0}, body = {0};
    struct policy policy;
    uint8_t id[SESSION_ID];
    *work = (struct step_up){operation->domain, then};
    operation->domain = work;
    operation_policy(operation, &policy);
    binding_print(context, &items);
    name_challenge(operation, owner, session_id, context, id);
    buffer_add(&body, session_id, SESSION_ID);
    put_short(&body, operation->tenant);
    put_short(&body, operation->user_id);
    buffer_add_text(&body, buffer_text(&items));
    challenge.method = (enum verify_method)policy.verify_method;
    challenge.body = buffer_text(&body);
    crypto_random(challenge.secret, SECRET_LENGTH);
    challenge_offer(operation, owner, id, &challenge, offered);
    crypto_wipe(challenge.secret, SECRET_LENGTH);
    buffer_free(&items);
    buffer_free(&body);
}

/* --- widening --- */

struct widening {
    struct change change;
    uint8_t session_id[SESSION_ID];
    struct text items;
    int64_t not_before_ms; /* a cutoff that is later refuses; INT64_MAX: none does */
    bool first_only;       /* adopt: if there is none of the family */
    struct shown_context context;
    void (*then)(struct operation *operation);
};

static enum verdict refuse(struct operation *operation, enum err err, struct text reason)
{
    operation_refuse(operation, err, reason);
    return CHANGE_DONE;
}

static enum verdict decide_widening(struct change *change, struct user_state *state,
                                    struct edit *edit)
{
    struct widening *work = (struct widening *)change;
    struct operation *operation = change->operation;
    struct session *session = state_find(state, work->session_id);
    enum err err = work->first_only ? ERR_TOKEN_INVALID : ERR_CHALLENGE_OVER;
    struct policy policy;
    operation_policy(operation, &policy);
    if (!session || session->ended)
        return refuse(operation, err, TEXT(REASON_UNKNOWN));
    operation_note_session(operation, session);
    struct text dead = rules_dead(&state->user, session, &policy, operation->now_ms);
    if (dead.data)
        return refuse(operation, err, dead);
    if (work->not_before_ms < state->user.not_before_ms)
        return refuse(operation, err, TEXT(REASON_REVOKED));
    if (!work->first_only && guess_refuses(operation, &state->contexts, &policy))
        return CHANGE_DONE;
    struct text items = binding_items(&session->record, operation->arena);
    unsigned breaches = binding_breaches(operation->conf, items, &work->context);
    if (work->first_only && breaches & BREACH_IP)
        return refuse(operation, err, TEXT(REASON_BINDING));
    binding_add(operation->conf, &session->record, work->items, operation->arena);
    edit_set_session(edit, session->id, &session->record);
    if (!work->first_only && state->contexts.guesses > 0) {
        state->contexts.guesses = 0;
        edit_set_contexts(edit, &state->contexts);
    }
    rules_settle(edit, state, NULL, &policy, operation->now_ms);
    return CHANGE_WRITE;
}

static void finish_widening(struct change *change)
{
    const struct widening *work = (const struct widening *)change;
    work->then(change->operation);
}

static void widen(struct widening *work)
{
    work->change.decide = decide_widening;
    work->change.finish = finish_widening;
    change_begin(&work->change);
}

void step_up_adopt(struct operation *operation, const struct user_tag *owner,
                   const uint8_t session_id[SESSION_ID], const struct shown_context *context,
                   void (*then)(struct operation *operation))
{
    struct widening *work = arena_zalloc(operation->arena, sizeof(*work));
    struct shown_context address = *context;
    struct buffer items = {0};
    address.has_fingerprint = address.complete = false;
    binding_print(&address, &items);
    memcpy(work->session_id, session_id, SESSION_ID);
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, owner);
    work->items = arena_copy(operation->arena, buffer_text(&items));
    work->not_before_ms = INT64_MAX;
    work->first_only = true;
    work->context = address;
    work->then = then;
    buffer_free(&items);
    widen(work);
}

static void accept_with_tenant(struct operation *operation)
{
    struct widening *work = operation->domain;
    if (operation->err != ERR_OK || tenant_refuses(operation, work->session_id, ERR_CHALLENGE_OVER))
        operation_done(operation);
    else
        widen(work);
}

void step_up_accept(struct operation *operation, const struct user_tag *owner, int64_t issued_ms,
                    struct text bytes)
{
    struct widening *work = arena_zalloc(operation->arena, sizeof(*work));
    struct body body;
    if (!read_body(bytes, &body)) {
        operation->err = ERR_CHALLENGE_OVER;
        operation_done(operation);
        return;
    }
    memcpy(work->session_id, body.session_id, SESSION_ID);
    work->change.operation = operation;
    work->change.codec = operation_codec(operation, owner);
    work->items = body.items;
    work->not_before_ms = issued_ms;
    work->then = operation_done;
    operation->domain = work;
    tenant_enter(operation, owner->tenant, accept_with_tenant);
}
