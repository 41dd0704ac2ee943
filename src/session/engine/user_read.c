/* Reads a user with HGETALL, for operations that change nothing. */
#include "user_read.h"

#include <assert.h>

#include "container_of.h"
#include "operation.h"
#include "session/model/keys.h"

static void user_read_done(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct user_read *read = container_of(call, struct user_read, call);
    struct operation *operation = read->operation;
    struct session_service *service = operation->context->worker->service;
    struct state_codec codec = operation_codec(operation, &read->owner);
    struct user_state state;
    if (err == ERR_OK)
        err = state_read(&codec, reply, operation->arena, &state);
    if (err == ERR_OK)
        err = freshness_check(service, &read->guard, &read->owner, state.version, state.epoch);
    if (err == ERR_STORE_BEHIND && call->flags & STORE_REPLICA_READ)
        user_read_begin(read, false);
    else
        read->done(read, err, err == ERR_OK ? &state : NULL);
}

void user_read_begin(struct user_read *read, bool near)
{
    const struct operation *operation = read->operation;
    struct session_worker *worker = operation->context->worker;
    assert(read->done);
    keys_user(&read->owner, KEYS_USER, read->key);
    read->arguments[0] = TEXT("HGETALL");
    read->arguments[1] = (struct text){read->key, KEYS_USER_LENGTH};
    read->guard = freshness_begin(worker, &read->owner, store_slot(read->arguments[1]));
    operation_ask(operation, &read->call, read->arguments, 2,
                  STORE_REPEATABLE | (near ? STORE_REPLICA_READ : 0), user_read_done);
}
