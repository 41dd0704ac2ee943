/* Listing: the living sessions of a user, and what holds for the user. */
#include "clock.h"
#include "index.h"
#include "living.h"
#include "rules.h"
#include "tenant.h"

struct listing {
    struct list_devices *list;
    struct token token;
    struct user_tag owner;
    struct store_call call;
    struct text arguments[2];
    char key[USER_KEY_LENGTH];
    int64_t fence_ms; /* as it was when the state was asked for */
};

static void list_state(struct listing *listing, struct user_state *state)
{
    struct list_devices *list = listing->list;
    struct operation *operation = &list->base;
    struct session *current = NULL;
    struct policy policy;
    operation_policy(operation, &policy);
    living_prepare(operation, &listing->owner, state);
    if (list->token.data) {
        current = operation_authenticate(operation, state, &listing->token);
        if (!current)
            return;
    }
    list->count = living_list(operation, state, current, &list->sessions);
    if (list->count > 0)
        index_note_state(operation, &listing->owner, state);
    list->limit = policy.max_devices;
    list->frozen = rules_frozen(&state->user, operation->now_ms / 1000);
    if (list->frozen) {
        list->frozen_reason = state->user.frozen_reason;
        list->frozen_until_s = state->user.frozen_until_s;
    }
    list->not_before_s = state->user.not_before_ms / 1000;
}

static void send_listing(struct listing *listing, unsigned flags);
static void end_listing(struct listing *listing);

static void listing_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct listing *listing = (struct listing *)((char *)call - offsetof(struct listing, call));
    struct operation *operation = &listing->list->base;
    struct state_codec codec = operation_codec(operation, &listing->owner);
    struct user_state state;
    if (err == ERR_OK)
        err = state_read(&codec, reply, operation->arena, &state);
    if (err == ERR_OK && living_is_behind(&state, listing->fence_ms)) {
        if (call->flags & STORE_NEAR) {
            send_listing(listing, 0);
            return;
        }
        err = ERR_STORE_BEHIND;
    }
    if (err == ERR_OK)
        list_state(listing, &state);
    else
        operation->err = err;
    end_listing(listing);
}

static void send_listing(struct listing *listing, unsigned flags)
{
    const struct operation *operation = &listing->list->base;
    listing->fence_ms =
        fence_of(operation->context->worker->service->fence, &listing->owner, clock_wall_ms());
    listing->arguments[0] = TEXT("HGETALL");
    listing->arguments[1] = (struct text){listing->key, USER_KEY_LENGTH};
    listing->call = (struct store_call){
        .key = listing->arguments[1],
        .arguments = listing->arguments,
        .argument_count = 2,
        .flags = STORE_REPEATABLE | flags,
        .deadline_ms = operation->deadline_ms,
        .done = listing_done,
    };
    store_send(operation->context->worker->link, &listing->call);
}

static void end_listing(struct listing *listing)
{
    crypto_wipe(&listing->token, sizeof(listing->token));
    operation_done(&listing->list->base);
}

static void list_with_tenant(struct operation *operation)
{
    struct listing *listing = operation->domain;
    bool named = !listing->list->token.data;
    if (operation->err != ERR_OK ||
        (!named && tenant_refuses(operation, listing->token.session_id, ERR_TOKEN_INVALID)))
        end_listing(listing);
    else
        /* A replica may be a little late: good enough for a list, not for a token. */
        send_listing(listing, named ? STORE_NEAR : 0);
}

void session_list(struct list_devices *list)
{
    struct operation *operation = &list->base;
    struct listing *listing = arena_zalloc(operation->arena, sizeof(*listing));
    listing->list = list;
    if (list->token.data) {
        if (!operation_open_token(operation, TOKEN_ACCESS, list->token, list->tenant,
                                  list->tenant_bound, ERR_TOKEN_INVALID, &listing->token)) {
            operation_done(operation);
            return;
        }
        listing->owner = listing->token.owner;
    } else {
        token_tag_user(operation->context->keyring, list->tenant, list->user_id, &listing->owner);
        operation->tenant = list->tenant;
        operation->user_id = list->user_id;
    }
    token_user_key(&listing->owner, 'u', listing->key);
    operation->domain = listing;
    tenant_enter(operation, listing->owner.tenant, list_with_tenant);
}
