/* Many validations as one operation, begun in pieces. */
#include <assert.h>

#include "container_of.h"
#include "session/engine/operation.h"
#include "session/engine/turns.h"

/* Tokens begun in one turn: about a quarter of a millisecond of work if memory has them. */
enum { PIECE = 128 };

/* Tokens between the one that begins and the one whose data the processor is told to fetch. */
enum { AHEAD = 4 };

static void item_is_done(struct operation *operation)
{
    struct validate_batch *batch = operation->owner;
    assert(batch->ended < batch->begun);
    batch->ended++;
    if (batch->ended == batch->count)
        batch->base.done(&batch->base);
}

/* Audit lines of batches have no names, so none is sought for dead tokens. */
static void begin_item(struct validate_batch *batch, struct validate *item)
{
    const struct operation *base = &batch->base;
    struct operation *operation = &item->base;
    operation->context = base->context;
    operation->arena = base->arena;
    operation->conf = base->conf;
    operation->now_ms = base->now_ms;
    operation->deadline_ms = base->deadline_ms;
    operation->actor = base->actor;
    operation->permission = base->permission;
    operation->done = item_is_done;
    operation->owner = batch;
    operation->own.names_sought = true;
    batch->begun++;
    if (!base->context->worker->closing) {
        session_validate(item);
        return;
    }
    operation_refuse(operation, ERR_SHUTTING_DOWN, (struct text){0});
    item_is_done(operation);
}

/* The last item may end the batch, and with it its memory. */
static void run_piece(struct turn *turn)
{
    struct validate_batch *batch = container_of(turn, struct validate_batch, turn);
    struct session_worker *worker = batch->base.context->worker;
    size_t begin = batch->begun, count = batch->count;
    size_t end = count - begin > PIECE ? begin + PIECE : count;
    for (size_t i = begin; i < end && i < begin + AHEAD; i++)
        session_expect(worker, batch->items[i].token);
    if (end < count)
        turns_add(worker, turn);
    for (size_t i = begin; i < end; i++) {
        if (i + AHEAD < end)
            session_expect(worker, batch->items[i + AHEAD].token);
        begin_item(batch, &batch->items[i]);
    }
}

void session_validate_batch(struct validate_batch *batch)
{
    assert(batch->count > 0);
    batch->turn.run = run_piece;
    run_piece(&batch->turn);
}
