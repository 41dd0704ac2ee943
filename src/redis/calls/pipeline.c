/* Commands out, replies in.
 *
 * A durable connection sends one batch at a time: the gathered commands, then one WAIT. Redis holds
 * back all commands after a WAIT until a replica has answered or the time is up. With a batch for
 * every flush the pauses of a lost replica would add up. With one batch in flight the next gathers
 * meanwhile, and no call waits for more than two. */
#include "pipeline.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "metrics.h"
#include "redis/protocol/command.h"

enum {
    /* The codec moves the rest of its input after each kilobyte read: small portions keep that
     * cheap. */
    FEED_BYTES = 8 * 1024,
    READS_AT_ONCE = 4,   /* then other connections have their turn */
    WAIT_ASK_MS = 5,     /* enough for a healthy replica nearby */
    ASK_FOR_MS = 1000,   /* then one WAIT takes its full time again */
    WAIT_GRACE_MS = 300, /* WAIT may come late by the server's clock tick and the way back */
    OUTPUT_BYTES_KEPT = 256 * 1024 /* a larger buffer is given back when it is empty */
};

void pipeline_init(struct pipeline *pipeline, struct transport *transport, bool durable,
                   const struct pipeline_events *events)
{
    *pipeline = (struct pipeline){.transport = transport, .durable = durable, .events = events};
}

void pipeline_free(struct pipeline *pipeline)
{
    assert(pipeline_is_idle(pipeline));
    reply_reader_close(&pipeline->reader);
    buffer_free(&pipeline->output);
}

void pipeline_reset(struct pipeline *pipeline)
{
    pipeline->output.length = 0;
    pipeline->output_taken = 0;
    pipeline->stream_end = 0;
    pipeline->heard = false;
    reply_reader_open(&pipeline->reader);
}

/* The replies are in; only the replicas are not known. */
static void end_held(struct pipeline *pipeline)
{
    struct store_call *call;
    while ((call = call_list_take(&pipeline->held)))
        call_end_soon(pipeline->transport->link, call, ERR_OK);
}

struct call_list pipeline_stop(struct pipeline *pipeline)
{
    struct call_list owed = pipeline->awaiting;
    pipeline->awaiting = (struct call_list){0};
    pipeline->wait_owed = false;
    pipeline->refused = false;
    end_held(pipeline);
    return owed;
}

bool pipeline_is_idle(const struct pipeline *pipeline)
{
    return !pipeline->awaiting.first && !pipeline->held.first && !pipeline->wait_owed;
}

uint64_t pipeline_written(const struct pipeline *pipeline)
{
    return pipeline->stream_end - (pipeline->output.length - pipeline->output_taken);
}

/* --- out --- */

static void output_sent(struct pipeline *pipeline)
{
    pipeline->output.length = 0;
    pipeline->output_taken = 0;
    if (pipeline->output.capacity > OUTPUT_BYTES_KEPT)
        buffer_free(&pipeline->output);
}

static void write_output(struct pipeline *pipeline)
{
    struct buffer *output = &pipeline->output;
    assert(pipeline->output_taken < output->length);
    ssize_t taken = transport_write(pipeline->transport, output->data + pipeline->output_taken,
                                    output->length - pipeline->output_taken);
    if (taken < 0 && errno != EAGAIN && errno != EINTR) {
        pipeline->events->failed(pipeline, errno);
        return;
    }
    pipeline->output_taken += taken > 0 ? (size_t)taken : 0;
    if (pipeline->output_taken == output->length)
        output_sent(pipeline);
    transport_watch(pipeline->transport, pipeline->output.length > 0);
}

void pipeline_write(struct pipeline *pipeline)
{
    if (pipeline->output.length > 0)
        write_output(pipeline);
    pipeline->transport->link->dirty = true;
}

static void add_call(struct pipeline *pipeline, struct store_call *call)
{
    struct store_call_state *state = call->state;
    size_t before = pipeline->output.length;
    if (state->asking) {
        command_append(&pipeline->output, (const struct text[]){TEXT("ASKING")}, 1);
        state->asking_owed = true;
    }
    buffer_add(&pipeline->output, state->bytes.data, state->bytes.length);
    pipeline->stream_end += pipeline->output.length - before;
    state->stream_end = pipeline->stream_end;
}

/* At least 1, since 0 means for ever. A change is several writes: without a replica each would run
 * into its timeout, and the change into its deadline. So only one a second takes its full time. */
static int64_t wait_ms(const struct pipeline *pipeline, int64_t last_deadline_ms)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t left_ms = last_deadline_ms - now_ms;
    int64_t most_ms = pipeline->transport->link->settings->wait_timeout_ms;
    if (now_ms < pipeline->ask_until_ms && most_ms > WAIT_ASK_MS)
        most_ms = WAIT_ASK_MS;
    int64_t chosen_ms = left_ms < most_ms ? left_ms : most_ms;
    return chosen_ms > 1 ? chosen_ms : 1;
}

static void add_wait(struct pipeline *pipeline, int64_t last_deadline_ms)
{
    size_t before = pipeline->output.length;
    int64_t timeout_ms = wait_ms(pipeline, last_deadline_ms);
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRId64, timeout_ms);
    const struct text arguments[] = {TEXT("WAIT"), TEXT("1"), {digits, (size_t)length}};
    command_append(&pipeline->output, arguments, 3);
    pipeline->stream_end += pipeline->output.length - before;
    pipeline->wait_owed = true;
    pipeline->wait_due_ms = clock_monotonic_ms() + timeout_ms + WAIT_GRACE_MS;
    timing_schedule(&pipeline->transport->link->timing, pipeline->wait_due_ms);
}

void pipeline_send_queue(struct pipeline *pipeline, struct call_list *queue)
{
    if (pipeline->output.length > 0 || pipeline->wait_owed || pipeline->refused)
        return;
    uint64_t commands = 0;
    int64_t last_deadline_ms = 0;
    struct store_call *call;
    while ((call = call_list_take(queue))) {
        add_call(pipeline, call);
        call_list_add(&pipeline->awaiting, call);
        commands++;
        if (call->deadline_ms > last_deadline_ms)
            last_deadline_ms = call->deadline_ms;
    }
    if (pipeline->durable)
        add_wait(pipeline, last_deadline_ms);
    metrics_add(METRIC_STORE_COMMANDS, commands);
    write_output(pipeline);
}

void pipeline_send(struct pipeline *pipeline, const struct text *arguments, size_t count)
{
    size_t before = pipeline->output.length;
    command_append(&pipeline->output, arguments, count);
    pipeline->stream_end += pipeline->output.length - before;
    metrics_add(METRIC_STORE_COMMANDS, 1);
    write_output(pipeline);
}

/* --- in --- */

static void note_wait(struct pipeline *pipeline, int64_t replicas)
{
    int64_t now_ms = clock_monotonic_ms();
    if (replicas > 0)
        pipeline->ask_until_ms = 0;
    else if (now_ms >= pipeline->ask_until_ms)
        pipeline->ask_until_ms = now_ms + ASK_FOR_MS;
}

/* The replicas that have the batch, 0 if the server could not say. */
static void take_wait_reply(struct pipeline *pipeline, const struct store_reply *reply)
{
    int64_t replicas = 0;
    assert(pipeline->durable);
    if (reply->is_error || !store_reply_int(reply, 0, INT32_MAX, &replicas))
        replicas = 0;
    pipeline->wait_owed = false;
    note_wait(pipeline, replicas);
    pipeline->transport->link->dirty = true;
    struct call_list held = pipeline->held;
    pipeline->held = (struct call_list){0};
    struct store_call *next;
    for (struct store_call *call = held.first; call; call = next) {
        next = call->next;
        call->state->list = NULL;
        call->replicas = replicas;
        call_end(pipeline->transport->link, call, ERR_OK, call->state->reply);
    }
}

static void take_call_reply(struct pipeline *pipeline, struct store_call *call,
                            const struct store_reply *reply)
{
    pipeline->heard = true;
    if (call->state->asking_owed) {
        /* OK or not: the answer to the command itself decides. */
        call->state->asking_owed = false;
        return;
    }
    call_list_remove(call);
    if (!pipeline->events->call_reply(pipeline, call, reply))
        return;
    if (pipeline->wait_owed) {
        call->state->reply = reply;
        call_list_add(&pipeline->held, call);
        return;
    }
    call_end(pipeline->transport->link, call, ERR_OK, reply);
}

/* False if the socket is closed. */
static bool take_reply(struct pipeline *pipeline, const struct store_reply *reply)
{
    if (pipeline->awaiting.first)
        take_call_reply(pipeline, pipeline->awaiting.first, reply);
    else if (pipeline->wait_owed)
        take_wait_reply(pipeline, reply);
    else
        pipeline->events->reply(pipeline, reply);
    if (!transport_has_socket(pipeline->transport))
        return false;
    if (!pipeline->held.first)
        reply_reader_release(&pipeline->reader);
    if (pipeline->refused && !pipeline->awaiting.first && !pipeline->wait_owed) {
        pipeline->events->broken(pipeline, ERR_STORE_DENIED, "denied");
        return false;
    }
    return true;
}

static bool take_replies(struct pipeline *pipeline)
{
    const struct store_reply *reply;
    enum reply_progress progress;
    while ((progress = reply_reader_next(&pipeline->reader, &reply)) == REPLY_READY)
        if (!take_reply(pipeline, reply))
            return false;
    if (progress == REPLY_BROKEN) {
        pipeline->events->broken(pipeline, ERR_STORE_UNAVAILABLE, "not-a-reply");
        return false;
    }
    return true;
}

static bool feed(struct pipeline *pipeline, const char *data, size_t length)
{
    while (length > 0) {
        size_t portion = length < FEED_BYTES ? length : FEED_BYTES;
        if (!reply_reader_feed(&pipeline->reader, data, portion)) {
            pipeline->events->broken(pipeline, ERR_STORE_UNAVAILABLE, "reply-too-large");
            return false;
        }
        if (!take_replies(pipeline))
            return false;
        data += portion;
        length -= portion;
    }
    return true;
}

/* True if there may be more to read. */
static bool read_once(struct pipeline *pipeline)
{
    char *input = pipeline->transport->link->input;
    ssize_t length = transport_read(pipeline->transport, input, LINK_INPUT_BYTES);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (length <= 0) {
        pipeline->events->failed(pipeline, length == 0 ? 0 : errno);
        return false;
    }
    bool full = (size_t)length == LINK_INPUT_BYTES;
    /* TLS gives one record a read, however many there are. */
    return feed(pipeline, input, (size_t)length) && (full || pipeline->transport->tls);
}

static bool may_read_on(const struct pipeline *pipeline, int reads)
{
    return reads < READS_AT_ONCE || transport_has_pending(pipeline->transport);
}

void pipeline_read(struct pipeline *pipeline)
{
    struct store_link *link = pipeline->transport->link;
    link->read_ns = clock_monotonic_ns();
    for (int reads = 0; may_read_on(pipeline, reads) && read_once(pipeline); reads++) {
    }
    link->read_ns = 0;
    if (!pipeline->transport->tls)
        return;
    if (pipeline->output.length > 0 && transport_write_wants_read(pipeline->transport))
        write_output(pipeline);
    else
        transport_watch(pipeline->transport, pipeline->output.length > 0);
}
