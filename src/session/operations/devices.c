/* Lists a user's active sessions and the user's status. */
#include "session/index/index.h"

#include <assert.h>

#include "session/engine/revocation.h"
#include "session/engine/tenant.h"
#include "session/engine/user_read.h"
#include "session_list.h"

struct listing {
    struct list_devices *list;
    struct waiter waiter;
    struct token token;
    struct user_read read;
};

static void list_state(struct listing *listing, struct user_state *state)
{
    assert(listing->list->base.tenancy);
    struct list_devices *list = listing->list;
    struct operation *operation = &list->base;
    struct session *current = NULL;
    struct policy policy;
    operation_policy(operation, &policy);
    session_list_prepare(operation, &listing->read.owner, state);
    if (list->token.data) {
        current = operation_authenticate(operation, state, &listing->token);
        if (!current)
            return;
    }
    list->count = session_list_list(operation, state, current, &list->sessions);
    list->over_count = session_list_ended(operation, state, &list->over);
    if (list->count > 0)
        index_note_state(operation, &listing->read.owner, state);
    list->limit = policy.max_devices;
    list->user = session_list_user(&state->user, operation->now_ms / 1000);
}

static void end_listing(struct listing *listing)
{
    crypto_wipe(&listing->token, sizeof(listing->token));
    naming_done(&listing->list->base);
}

static void listing_read(struct user_read *read, enum err err, struct user_state *state)
{
    struct listing *listing = container_of(read, struct listing, read);
    if (err == ERR_OK)
        list_state(listing, state);
    else
        listing->list->base.out.err = err;
    end_listing(listing);
}

static void list_devices_in_tenant(struct waiter *waiter)
{
    struct listing *listing = container_of(waiter, struct listing, waiter);
    struct operation *operation = &listing->list->base;
    bool named = !listing->list->token.data;
    if (operation->out.err != ERR_OK ||
        (!named && tenant_refuses(operation, listing->token.session_id, ERR_TOKEN_INVALID)))
        end_listing(listing);
    else
        /* A replica may be a little late: acceptable for a list, not for a token. */
        user_read_begin(&listing->read, named);
}

void session_list(struct list_devices *list)
{
    struct operation *operation = &list->base;
    struct listing *listing = arena_zalloc(operation->arena, sizeof(*listing));
    listing->list = list;
    if (list->token.data) {
        if (!operation_open_token(operation, TOKEN_ACCESS, list->token, list->tenant,
                                  list->tenant_bound, ERR_TOKEN_INVALID, &listing->token) ||
            revocation_refuses(operation, &listing->token, ERR_TOKEN_INVALID)) {
            end_listing(listing);
            return;
        }
        listing->read.owner = listing->token.owner;
    } else {
        token_tag_user(operation->context->keyring, list->tenant, list->user_id,
                       &listing->read.owner);
        operation->facts.tenant = list->tenant;
        operation->facts.user_id = list->user_id;
    }
    listing->read.done = listing_read;
    listing->read.operation = operation;
    tenant_enter(operation, listing->read.owner.tenant,
                 waiter_of(&listing->waiter, list_devices_in_tenant));
}
