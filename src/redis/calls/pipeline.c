/* Commands out, replies in.
 *
 * A durable connection sends one batch at a time: the commands that have gathered, then one WAIT.
 * Redis holds back everything behind a WAIT until a replica has answered or the time is up, so with
 * a batch for every flush the pauses of a lost replica would add up; with one batch under way the
 * next gathers meanwhile, and nobody waits for more than two. */
#include "pipeline.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "command.h"
#include "link.h"
#include "metrics.h"
#include "tls.h"
#include "transport.h"

enum {
    /* The codec moves what is left of its input after each kilobyte read: small portions keep that
     * cheap. */
    FEED_BYTES = 8 * 1024,
    READS_AT_ONCE = 4,   /* then other connections have their turn */
    WAIT_ASK_MS = 5,     /* enough for a replica that is near and well */
    ASK_FOR_MS = 1000,   /* then one WAIT takes its full time again */
    WAIT_GRACE_MS = 300, /* WAIT may come late by the server's clock tick and the way back */
    OUTPUT_BYTES_KEPT = 256 * 1024 /* a larger buffer is given back when it is empty */
};

void pipeline_reset(struct connection *connection)
{
    connection->output.length = 0;
    connection->output_taken = 0;
    connection->stream_end = 0;
    reply_reader_open(&connection->reader);
}

uint64_t pipeline_written(const struct connection *connection)
{
    return connection->stream_end - (connection->output.length - connection->output_taken);
}

/* --- out --- */

static void output_sent(struct connection *connection)
{
    connection->output.length = 0;
    connection->output_taken = 0;
    if (connection->output.capacity > OUTPUT_BYTES_KEPT)
        buffer_free(&connection->output);
}

/* TLS may have to write before it can read, and read before it can write. */
static void watch_as_needed(struct connection *connection)
{
    const struct tls_link *tls = connection->tls;
    bool writing = connection->output.length > 0 && !(tls && tls_write_wants_read(tls));
    bool reading = tls && tls_read_wants_write(tls);
    transport_watch_writable(connection, writing || reading);
}

static void write_output(struct connection *connection)
{
    struct buffer *output = &connection->output;
    assert(connection->output_taken < output->length);
    ssize_t taken = transport_write(connection, output->data + connection->output_taken,
                                    output->length - connection->output_taken);
    if (taken < 0 && errno != EAGAIN && errno != EINTR) {
        connection_fail(connection, errno);
        return;
    }
    connection->output_taken += taken > 0 ? (size_t)taken : 0;
    if (connection->output_taken == output->length)
        output_sent(connection);
    watch_as_needed(connection);
}

void pipeline_write(struct connection *connection)
{
    if (connection->output.length > 0)
        write_output(connection);
    connection->link->dirty = true;
}

static void add_call(struct connection *connection, struct store_call *call)
{
    struct store_call_state *state = call->state;
    size_t before = connection->output.length;
    if (state->asking) {
        command_append(&connection->output, (const struct text[]){TEXT("ASKING")}, 1);
        state->asking_owed = true;
    }
    buffer_add(&connection->output, state->bytes.data, state->bytes.length);
    connection->stream_end += connection->output.length - before;
    state->stream_end = connection->stream_end;
}

/* At least 1, since WAIT takes 0 for ever. A change is several writes, and without a replica each
 * would run into its timeout and the change into its deadline: so only one a second does. */
static int64_t wait_ms(const struct connection *connection, int64_t last_deadline_ms)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t left_ms = last_deadline_ms - now_ms;
    int64_t most_ms = connection->link->settings->wait_timeout_ms;
    if (now_ms < connection->ask_until_ms && most_ms > WAIT_ASK_MS)
        most_ms = WAIT_ASK_MS;
    int64_t chosen_ms = left_ms < most_ms ? left_ms : most_ms;
    return chosen_ms > 1 ? chosen_ms : 1;
}

static void add_wait(struct connection *connection, int64_t last_deadline_ms)
{
    size_t before = connection->output.length;
    int64_t timeout_ms = wait_ms(connection, last_deadline_ms);
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, timeout_ms);
    const struct text arguments[] = {TEXT("WAIT"), TEXT("1"), {digits, (size_t)length}};
    command_append(&connection->output, arguments, 3);
    connection->stream_end += connection->output.length - before;
    connection->wait_owed = true;
    connection->due_ms = clock_monotonic_ms() + timeout_ms + WAIT_GRACE_MS;
    timing_schedule(connection->link, connection->due_ms);
}

void pipeline_send_queue(struct connection *connection)
{
    assert(connection->state == CONNECTION_UP);
    if (connection->output.length > 0 || connection->wait_owed || connection->refused)
        return;
    uint64_t commands = 0;
    int64_t last_deadline_ms = 0;
    struct store_call *call;
    while ((call = call_list_take(&connection->queue))) {
        add_call(connection, call);
        call_list_add(&connection->awaiting, call);
        commands++;
        if (call->deadline_ms > last_deadline_ms)
            last_deadline_ms = call->deadline_ms;
    }
    if (connection->durable)
        add_wait(connection, last_deadline_ms);
    metrics_add(METRIC_STORE_COMMANDS, commands);
    write_output(connection);
}

void pipeline_send(struct connection *connection, const struct text *arguments, size_t count)
{
    size_t before = connection->output.length;
    command_append(&connection->output, arguments, count);
    connection->stream_end += connection->output.length - before;
    metrics_add(METRIC_STORE_COMMANDS, 1);
    write_output(connection);
}

/* --- in --- */

static void note_wait(struct connection *connection, int64_t replicas)
{
    int64_t now_ms = clock_monotonic_ms();
    if (replicas > 0)
        connection->ask_until_ms = 0;
    else if (now_ms >= connection->ask_until_ms)
        connection->ask_until_ms = now_ms + ASK_FOR_MS;
}

/* The replicas that have the batch, 0 if the server could not say. */
static void take_wait_reply(struct connection *connection, const struct store_reply *reply)
{
    int64_t replicas = 0;
    assert(connection->durable);
    if (reply->is_error || !store_reply_int(reply, 0, INT32_MAX, &replicas))
        replicas = 0;
    connection->wait_owed = false;
    note_wait(connection, replicas);
    connection->link->dirty = true;
    struct call_list held = connection->held;
    connection->held = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = held.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        call->replicas = replicas;
        call_end(connection->link, call, ERR_OK, call->state->reply);
    }
}

static void take_subscribed_reply(struct connection *connection, const struct store_reply *reply)
{
    connection->pause_ms = 0;
    connection->subscriber->reply(connection, reply);
}

static void take_call_reply(struct connection *connection, struct store_call *call,
                            const struct store_reply *reply)
{
    connection->pause_ms = 0;
    if (call->state->asking_owed) {
        /* OK or not: the answer to the command itself will tell. */
        call->state->asking_owed = false;
        return;
    }
    call_list_remove(call);
    if (!call_take_reply(connection->link, call, connection, reply))
        return;
    if (connection->wait_owed) {
        call->state->reply = reply;
        call_list_add(&connection->held, call);
        return;
    }
    call_end(connection->link, call, ERR_OK, reply);
}

/* False if the connection broke. */
static bool take_reply(struct connection *connection, const struct store_reply *reply)
{
    if (connection->state == CONNECTION_GREETING)
        transport_greeted(connection, reply);
    else if (connection->subscriber)
        take_subscribed_reply(connection, reply);
    else if (connection->awaiting.first)
        take_call_reply(connection, connection->awaiting.first, reply);
    else if (connection->wait_owed)
        take_wait_reply(connection, reply);
    else
        connection_break(connection, ERR_STORE_UNAVAILABLE, "unasked-reply");
    if (!connection->socket)
        return false;
    if (!connection->held.first)
        reply_reader_release(&connection->reader);
    if (connection->refused && !connection->awaiting.first && !connection->wait_owed) {
        connection_break(connection, ERR_STORE_DENIED, "denied");
        return false;
    }
    return true;
}

static bool take_replies(struct connection *connection)
{
    const struct store_reply *reply;
    enum reply_progress progress;
    while ((progress = reply_reader_next(&connection->reader, &reply)) == REPLY_READY)
        if (!take_reply(connection, reply))
            return false;
    if (progress == REPLY_BROKEN) {
        connection_break(connection, ERR_STORE_UNAVAILABLE, "not-a-reply");
        return false;
    }
    return true;
}

static bool feed(struct connection *connection, const char *data, size_t length)
{
    while (length > 0) {
        size_t portion = length < FEED_BYTES ? length : FEED_BYTES;
        if (!reply_reader_feed(&connection->reader, data, portion)) {
            connection_break(connection, ERR_STORE_UNAVAILABLE, "reply-too-large");
            return false;
        }
        if (!take_replies(connection))
            return false;
        data += portion;
        length -= portion;
    }
    return true;
}

/* True if there may be more to read. */
static bool read_once(struct connection *connection)
{
    char *input = connection->link->input;
    ssize_t length = transport_read(connection, input, LINK_INPUT_BYTES);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (length <= 0) {
        connection_fail(connection, length == 0 ? 0 : errno);
        return false;
    }
    bool full = (size_t)length == LINK_INPUT_BYTES;
    /* TLS gives one record a read, however many there are. */
    return feed(connection, input, (size_t)length) && (full || connection->tls);
}

/* What TLS holds back inside would never make the socket readable. */
static bool may_read_on(const struct connection *connection, int reads)
{
    return reads < READS_AT_ONCE || (connection->tls && tls_has_pending(connection->tls));
}

void pipeline_read(struct connection *connection)
{
    struct store_link *link = connection->link;
    link->read_ns = clock_monotonic_ns();
    for (int reads = 0; may_read_on(connection, reads) && read_once(connection); reads++) {
    }
    link->read_ns = 0;
    if (!connection->socket || !connection->tls)
        return;
    if (connection->output.length > 0 && tls_write_wants_read(connection->tls))
        write_output(connection);
    else
        watch_as_needed(connection);
}
