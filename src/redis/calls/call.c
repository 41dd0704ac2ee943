/* Lists, encoding, the breaker of the node that a call is with, and ends. Targets are chosen in
 * routing.c. */
#include "call.h"

#include <assert.h>

#include "clock.h"
#include "link_state.h"
#include "metrics.h"
#include "redis/protocol/command.h"

enum {
    SLEPT_MS = 100,       /* more than the clocks ever differ for being read one after the other */
    BYTES_KEPT = 4 * 1024 /* a state with a larger buffer gives it back */
};

/* --- lists --- */

void call_list_add(struct call_list *list, struct store_call *call)
{
    assert(!call->state->list);
    call->state->list = list;
    call->next = NULL;
    call->previous = list->last;
    if (list->last)
        list->last->next = call;
    else
        list->first = call;
    list->last = call;
}

void call_list_remove(struct store_call *call)
{
    struct call_list *list = call->state->list;
    assert(list);
    if (call->previous)
        call->previous->next = call->next;
    else
        list->first = call->next;
    if (call->next)
        call->next->previous = call->previous;
    else
        list->last = call->previous;
    call->state->list = NULL;
}

struct store_call *call_list_take(struct call_list *list)
{
    struct store_call *call = list->first;
    if (call)
        call_list_remove(call);
    return call;
}

/* --- begin --- */

static struct store_call_state *take_call_state(struct store_link *link)
{
    struct store_call_state *state = link->free_states;
    if (!state)
        return xcalloc(1, sizeof(*state));
    link->free_states = state->next_free;
    struct buffer bytes = state->bytes;
    *state = (struct store_call_state){.bytes = bytes};
    return state;
}

static void give_call_state(struct store_link *link, struct store_call_state *state)
{
    state->bytes.length = 0;
    if (state->bytes.capacity > BYTES_KEPT)
        buffer_free(&state->bytes);
    state->next_free = link->free_states;
    link->free_states = state;
}

/* EVALSHA name 1 key arguments... */
static void encode_script(struct store_call *call)
{
    struct store_call_state *state = call->state;
    state->argument_total = 4 + call->argument_count;
    command_begin(&state->bytes, state->argument_total);
    command_argument(&state->bytes, TEXT("EVALSHA"));
    command_argument(&state->bytes, text_of(call->script->sha1));
    state->arguments_at = state->bytes.length;
    command_argument(&state->bytes, TEXT("1"));
    command_argument(&state->bytes, call->key);
    for (size_t i = 0; i < call->argument_count; i++)
        command_argument(&state->bytes, call->arguments[i]);
}

void call_use_source(struct store_call *call)
{
    struct store_call_state *state = call->state;
    struct buffer bytes = {0};
    assert(!state->by_source);
    command_begin(&bytes, state->argument_total);
    command_argument(&bytes, TEXT("EVAL"));
    command_argument(&bytes, text_of(call->script->source));
    size_t arguments_at = bytes.length;
    buffer_add(&bytes, state->bytes.data + state->arguments_at,
               state->bytes.length - state->arguments_at);
    buffer_free(&state->bytes);
    state->bytes = bytes;
    state->arguments_at = arguments_at;
    state->by_source = true;
}

void call_begin(struct store_link *link, struct store_call *call)
{
    assert(call->done && (call->script || call->argument_count > 0));
    assert(!call->state);
    call->state = take_call_state(link);
    call->replicas = 0;
    call->state->started_ns = clock_monotonic_ns();
    call->state->slot = store_slot(call->key);
    if (call->script)
        encode_script(call);
    else
        command_append(&call->state->bytes, call->arguments, call->argument_count);
    link->pending++;
    metrics_gauge_add(METRIC_STORE_PENDING, 1);
    if (call->deadline_ms < link->first_deadline_ms) {
        link->first_deadline_ms = call->deadline_ms;
        timing_schedule(&link->timing, call->deadline_ms);
    }
}

/* --- breaker --- */

void call_note(struct store_call *call, bool success)
{
    struct store_call_state *state = call->state;
    struct store_breaker *breaker = state->breaker;
    if (!breaker)
        return;
    state->breaker = NULL;
    int64_t now_ms = clock_monotonic_ms();
    if (state->passed)
        breakers_note(breaker, now_ms, success);
    else
        breakers_witness(breaker, now_ms, success);
}

void call_leave(struct store_call *call)
{
    struct store_call_state *state = call->state;
    if (state->breaker && state->passed)
        breaker_forgo(&state->breaker->breaker);
    state->breaker = NULL;
    state->replica_until_ms = 0;
}

/* Direct calls, like maps and pings, pass an open breaker. */
bool call_may_pass(struct store_call *call, struct store_breaker *breaker)
{
    struct store_call_state *state = call->state;
    assert(!state->breaker);
    state->passed_ns = clock_monotonic_ns();
    state->slept_ms = clock_slept_ms();
    if (!state->direct && !breakers_pass(breaker, state->passed_ns / 1000000))
        return false;
    state->breaker = breaker;
    state->passed = !state->direct;
    return true;
}

void call_note_reply(struct store_link *link, struct store_call *call,
                     const struct store_reply *reply)
{
    int64_t took_ms = (link->read_ns - call->state->passed_ns) / 1000000;
    bool slow = took_ms > link->settings->slow_ms && !(call->flags & STORE_DURABLE);
    call_note(call, !slow && !reply_is_failure(reply));
}

bool call_slept_over(const struct store_call *call)
{
    return clock_slept_ms() - call->state->slept_ms > SLEPT_MS;
}

/* --- end --- */

bool call_got_through(enum err err)
{
    return err == ERR_OK || err_class(err) == ERR_CLASS_USELESS;
}

static void count_end(struct store_link *link, const struct store_call *call, enum err err)
{
    int64_t now_ns = link->read_ns ? link->read_ns : clock_monotonic_ns();
    int64_t duration_ns = now_ns - call->state->started_ns;
    metrics_observe(METRIC_STORE_DURATION, duration_ns > 0 ? duration_ns : 0);
    metrics_gauge_add(METRIC_STORE_PENDING, -1);
    if (err != ERR_OK)
        metrics_add(METRIC_STORE_ERRORS, 1);
    if (err == ERR_STORE_TIMEOUT)
        metrics_add(METRIC_STORE_TIMEOUTS, 1);
    if (!call->state->direct && err != ERR_SHUTTING_DOWN)
        store_state_note_call(link->store, call_got_through(err));
}

void call_end(struct store_link *link, struct store_call *call, enum err err,
              const struct store_reply *reply)
{
    assert(!call->state->list && link->pending > 0);
    call_leave(call);
    count_end(link, call, err);
    give_call_state(link, call->state);
    call->state = NULL;
    link->pending--;
    call->done(call, err, reply);
}

void call_end_soon(struct store_link *link, struct store_call *call, enum err err)
{
    call_leave(call);
    call->state->err = err;
    call_list_add(&link->ending, call);
    timing_schedule(&link->timing, 0);
}
