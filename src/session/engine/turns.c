/* The queue of turns, and the handle that lets the loop turn without waiting while there are any.
 */
#include "turns.h"

#include <assert.h>

static struct turn *take_turn(struct session_worker *worker)
{
    struct turn *turn = worker->turns;
    assert(turn);
    worker->turns = turn->next;
    if (!worker->turns)
        worker->turns_end = &worker->turns;
    turn->next = NULL;
    return turn;
}

static void on_turning(uv_idle_t *turning)
{
    struct session_worker *worker = turning->data;
    struct turn *turn = take_turn(worker);
    if (!worker->turns)
        uv_idle_stop(turning);
    turn->run(turn);
}

void turns_open(struct session_worker *worker, uv_loop_t *loop)
{
    uv_idle_init(loop, &worker->turning);
    worker->turning.data = worker;
    worker->turns_end = &worker->turns;
}

void turns_add(struct session_worker *worker, struct turn *turn)
{
    assert(turn->run && !turn->next);
    *worker->turns_end = turn;
    worker->turns_end = &turn->next;
    if (!worker->closing)
        uv_idle_start(&worker->turning, on_turning);
}

void turns_finish(struct session_worker *worker)
{
    assert(worker->closing);
    uv_idle_stop(&worker->turning);
    while (worker->turns) {
        struct turn *turn = take_turn(worker);
        turn->run(turn);
    }
}
