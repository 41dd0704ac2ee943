/* HGETALL of a user, for those who change nothing. */
#include "user_read.h"

#include <assert.h>

#include "container_of.h"
#include "operation.h"

static void read_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct user_read *read = container_of(call, struct user_read, call);
    struct operation *operation = read->operation;
    struct session_service *service = operation->context->worker->service;
    struct state_codec codec = operation_codec(operation, &read->owner);
    struct user_state state;
    if (err == ERR_OK)
        err = state_read(&codec, reply, operation->arena, &state);
    if (err == ERR_OK)
        err = guard_check(service, &read->guard, &read->owner, state.version, state.epoch);
    if (err == ERR_STORE_BEHIND && call->flags & STORE_NEAR)
        user_read_begin(read, false);
    else
        read->done(read, err, err == ERR_OK ? &state : NULL);
}

void user_read_begin(struct user_read *read, bool near)
{
    const struct operation *operation = read->operation;
    struct session_worker *worker = operation->context->worker;
    assert(read->done);
    token_user_key(&read->owner, 'u', read->key);
    read->arguments[0] = TEXT("HGETALL");
    read->arguments[1] = (struct text){read->key, USER_KEY_LENGTH};
    read->guard = guard_begin(worker, &read->owner, store_slot(read->arguments[1]));
    read->call = (struct store_call){
        .key = read->arguments[1],
        .arguments = read->arguments,
        .argument_count = 2,
        .flags = STORE_REPEATABLE | (near ? STORE_NEAR : 0),
        .deadline_ms = operation->deadline_ms,
        .done = read_done,
    };
    store_send(worker->link, &read->call);
}
