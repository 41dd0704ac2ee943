/* What becomes of a call: routing, redirections, pauses, ends. */
#include "call.h"

#include <assert.h>

#include "clock.h"
#include "command.h"
#include "connection.h"
#include "jitter.h"
#include "link.h"
#include "metrics.h"
#include "redis/topology/replica_read.h"

enum {
    TRIES_MAX = 16,
    PAUSE_FIRST_MS = 10,
    PAUSE_MOST_MS = 100,
    ERROR_PAUSE_MS = 1000,
    SLEPT_MS = 100, /* more than the two clocks ever differ by being read one after the other */
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

static struct store_call_state *take_state(struct store_link *link)
{
    struct store_call_state *state = link->free_states;
    if (!state)
        return xcalloc(1, sizeof(*state));
    link->free_states = state->next_free;
    struct buffer bytes = state->bytes;
    *state = (struct store_call_state){.bytes = bytes};
    return state;
}

static void give_state(struct store_link *link, struct store_call_state *state)
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

/* The same command with the source instead of its name. */
static void encode_by_source(struct store_call *call)
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
    call->state = take_state(link);
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
        timing_schedule(link, call->deadline_ms);
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

void call_forgo(struct store_call *call)
{
    struct store_call_state *state = call->state;
    if (state->breaker && state->passed)
        breaker_forgo(&state->breaker->breaker);
    state->breaker = NULL;
    state->replica_until_ms = 0;
}

static void note_reply(struct store_link *link, struct store_call *call,
                       const struct store_reply *reply)
{
    int64_t took_ms = (link->read_ns - call->state->passed_ns) / 1000000;
    bool slow = took_ms > link->settings->slow_ms && !(call->flags & STORE_DURABLE);
    call_note(call, !slow && !reply_is_failure(reply));
}

/* What links ask for themselves, like maps and pings, goes to nodes with an open breaker, too. */
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
        store_note_call(link->store, call_got_through(err));
}

void call_end(struct store_link *link, struct store_call *call, enum err err,
              const struct store_reply *reply)
{
    assert(!call->state->list && link->pending > 0);
    call_forgo(call);
    count_end(link, call, err);
    give_state(link, call->state);
    call->state = NULL;
    link->pending--;
    call->done(call, err, reply);
}

void call_end_soon(struct store_link *link, struct store_call *call, enum err err)
{
    call_forgo(call);
    call->state->err = err;
    call_list_add(&link->ending, call);
    timing_schedule(link, 0);
}

/* --- routes --- */

static void park(struct store_link *link, struct store_call *call, int64_t again_ms)
{
    call->state->again_ms = again_ms;
    call_list_add(&link->parked, call);
    if (again_ms)
        timing_schedule(link, again_ms);
}

/* The breaker, not the connection, says how often a node that failed is tried: the pause of the
 * connection would only hold up the probe. */
void call_send(struct store_link *link, struct node *node, struct store_call *call)
{
    if (!call_may_pass(call, node->breaker)) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    struct connection *connection = link_connection(link, node, call);
    bool probing = breaker_state(&node->breaker->breaker) == BREAKER_HALF_OPEN;
    if (probing && connection->down_err != ERR_STORE_DENIED)
        connection_end_pause(connection);
    connection_enqueue(connection, call);
}

void call_route(struct store_link *link, struct store_call *call)
{
    unsigned owner = link->map ? link->map->owner[call->state->slot] : SLOT_NONE;
    if (owner != SLOT_NONE) {
        if (!replica_read_send(link, call, owner))
            call_send(link, link->map_nodes[owner], call);
        return;
    }
    store_want_refresh(link->store);
    if (store_hole_is_real(link->store, link->map))
        call_end_soon(link, call, store_hole_err(link->store));
    else
        park(link, call, 0);
}

/* Counts one more try; false, with the call ended, if there have been too many. */
static bool may_try(struct store_link *link, struct store_call *call)
{
    call->state->tries++;
    if (call->state->direct || call->state->tries > TRIES_MAX) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return false;
    }
    return true;
}

/* Passing trouble is bounded by the deadline alone: pauses keep it from becoming a storm. */
static void pause_call(struct store_link *link, struct store_call *call,
                       const struct connection *connection)
{
    bool hopeless = breaker_state(&connection->breaker->breaker) == BREAKER_OPEN;
    if (call->state->direct || hopeless) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    int64_t pause_ms = PAUSE_FIRST_MS;
    for (unsigned i = 0; i < call->state->pauses && pause_ms < PAUSE_MOST_MS; i++)
        pause_ms *= 2;
    call->state->pauses++;
    metrics_add(METRIC_STORE_RETRIES, 1);
    park(link, call, clock_monotonic_ms() + jitter_pause(&link->seed, pause_ms));
}

/* Whom the cluster's map or the configuration names: everybody else would get our credentials on
 * the word of one server. */
static bool may_follow(const struct store_link *link, const struct endpoint *target)
{
    if (link->map && slot_map_knows(link->map, target))
        return true;
    for (size_t i = 0; i < link->settings->seed_count; i++)
        if (endpoint_equal(&link->settings->seeds[i], target))
            return true;
    return false;
}

/* What the server says, for the log and /readyz. Under a storm of errors one a second is enough;
 * what links ask for themselves matters only while there is no map. */
static void note_error(struct store_link *link, const struct store_call *call,
                       const struct connection *from, const struct store_reply *reply)
{
    char words[PROBLEM_WHY_MAX];
    int64_t now_ms = clock_monotonic_ms();
    if (call->state->direct && link->map)
        return;
    if (link->error_noted_ms && now_ms - link->error_noted_ms < ERROR_PAUSE_MS)
        return;
    link->error_noted_ms = now_ms;
    reply_words(reply, words, sizeof(words));
    server_problems_tell(&link->settings->errors, from->endpoint, words);
}

/* A fresh map may know the target, or another owner. */
static void wait_for_map(struct store_link *link, struct store_call *call,
                         const struct connection *from, const struct endpoint *target)
{
    metrics_add(METRIC_STORE_REDIRECTS_REFUSED, 1);
    store_note_stray(link->store, from->endpoint, target);
    store_want_refresh(link->store);
    pause_call(link, call, from);
}

static void redirect(struct store_link *link, struct store_call *call,
                     const struct connection *from, const struct store_reply *reply, bool asking)
{
    struct endpoint target;
    if (link->settings->mode != REDIS_CLUSTER) {
        note_error(link, call, from, reply);
        call_end_soon(link, call, ERR_STORE_UNFIT);
        return;
    }
    if (!endpoint_parse_redirect(reply_redirect_address(reply), from->endpoint->host, &target)) {
        note_error(link, call, from, reply);
        call_end_soon(link, call, ERR_STORE_PROTOCOL);
        return;
    }
    /* A server that sends calls to itself does not know the owner's host: the next map may. */
    if (!asking && endpoint_equal(&target, from->endpoint)) {
        pause_call(link, call, from);
        return;
    }
    if (!may_follow(link, &target)) {
        wait_for_map(link, call, from, &target);
        return;
    }
    if (!may_try(link, call))
        return;
    metrics_add(METRIC_STORE_REDIRECTS, 1);
    call->state->asking = asking;
    call_send(link, link_node(link, &target), call);
}

/* Once: a server that does not know a source it was just given is out of its mind. */
static void send_source(struct store_link *link, struct store_call *call,
                        struct connection *connection)
{
    if (!call->script || call->state->by_source) {
        call_end_soon(link, call, ERR_STORE_PROTOCOL);
        return;
    }
    encode_by_source(call);
    metrics_add(METRIC_STORE_RETRIES, 1);
    connection_enqueue(connection, call);
}

/* What is no answer: the call goes elsewhere, waits, or ends. */
static void take_error(struct store_link *link, struct store_call *call,
                       struct connection *connection, const struct store_reply *reply)
{
    enum reply_outcome outcome = reply_outcome(reply);
    switch (outcome) {
    case OUTCOME_MOVED:
    case OUTCOME_ASK:
        if (outcome == OUTCOME_MOVED)
            store_want_refresh(link->store);
        redirect(link, call, connection, reply, outcome == OUTCOME_ASK);
        return;
    case OUTCOME_STALE:
        store_want_refresh(link->store);
        pause_call(link, call, connection);
        return;
    case OUTCOME_AGAIN:
        pause_call(link, call, connection);
        return;
    case OUTCOME_NOSCRIPT:
        send_source(link, call, connection);
        return;
    case OUTCOME_DENIED:
        if (!(call->flags & STORE_DISPENSABLE)) {
            connection->refused = true;
            note_error(link, call, connection, reply);
        }
        call_end_soon(link, call, ERR_STORE_DENIED);
        return;
    case OUTCOME_REFUSED:
        note_error(link, call, connection, reply);
        call_end_soon(link, call, ERR_STORE_REFUSED);
        return;
    case OUTCOME_ANSWER:
    case OUTCOME_UNFIT:
    case OUTCOME_UNEXPECTED:
        break;
    }
    note_error(link, call, connection, reply);
    bool unfit = outcome == OUTCOME_UNFIT || atomic_load(&link->store->unfit);
    call_end_soon(link, call, unfit ? ERR_STORE_UNFIT : ERR_STORE_PROTOCOL);
}

/* The answer may have waited here, unread, while this host slept: others may have written since. */
static bool slept_over(const struct store_call *call)
{
    return clock_slept_ms() - call->state->slept_ms > SLEPT_MS;
}

bool call_take_reply(struct store_link *link, struct store_call *call,
                     struct connection *connection, const struct store_reply *reply)
{
    enum reply_outcome outcome = reply_outcome(reply);
    bool asked = call->state->asking;
    if (call->flags & STORE_REPEATABLE && slept_over(call)) {
        call_lose(link, call, true);
        return false;
    }
    /* The source goes to the same node, on the same pass. */
    if (outcome != OUTCOME_NOSCRIPT)
        note_reply(link, call, reply);
    /* The source follows ASKING again; every other way forgets it. */
    call->state->asking = asked && outcome == OUTCOME_NOSCRIPT;
    if (outcome == OUTCOME_ANSWER)
        return true;
    if (connection->near) {
        connection->refused = outcome == OUTCOME_DENIED;
        replica_read_fall_back(link, call);
    } else if (call->state->direct && (outcome == OUTCOME_MOVED || outcome == OUTCOME_STALE)) {
        store_want_refresh(link->store);
        call_end_soon(link, call, ERR_STORE_REFUSED);
    } else {
        take_error(link, call, connection, reply);
    }
    return false;
}

void call_lose(struct store_link *link, struct store_call *call, bool sent)
{
    if (call->state->replica_until_ms) {
        replica_read_fall_back(link, call);
        return;
    }
    call_forgo(call);
    call->state->asking = false;
    call->state->asking_owed = false;
    if (sent && !(call->flags & STORE_REPEATABLE)) {
        call_end_soon(link, call, ERR_STORE_UNAVAILABLE);
        return;
    }
    if (may_try(link, call)) {
        metrics_add(METRIC_STORE_RETRIES, 1);
        call_route(link, call);
    }
}
