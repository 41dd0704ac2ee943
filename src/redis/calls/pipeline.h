/* The stream of commands and replies on one connection: calls out, their replies in, WAIT after
 * durable writes. Replies come in the order of the commands. */
#pragma once

#include "redis/protocol/reply.h"
#include "transport.h"

struct pipeline;

/* Events for its owner, a connection. Each may close the transport. */
struct pipeline_events {
    /* The reply to a call, which is in no list. True if it is the answer: the pipeline ends the
     * call with it, a durable one once WAIT is answered. False: the owner has the call. */
    bool (*call_reply)(struct pipeline *pipeline, struct store_call *call,
                       const struct store_reply *reply);
    /* A reply that no call waits for. */
    void (*reply)(struct pipeline *pipeline, const struct store_reply *reply);
    /* The socket has failed: errno, 0 if the peer closed. */
    void (*failed)(struct pipeline *pipeline, int failure);
    /* It cannot go on. */
    void (*broken)(struct pipeline *pipeline, enum err err, const char *why);
};

struct pipeline {
    struct transport *transport;
    const struct pipeline_events *events;
    bool durable; /* one batch at a time, with WAIT after it */
    bool refused; /* NOAUTH came: `broken` as soon as nothing is owed */
    bool heard;   /* a command was answered since the reset */
    bool wait_owed;
    int64_t wait_due_ms;
    int64_t ask_until_ms;            /* a WAIT ran out: until then others wait shorter */
    struct call_list awaiting, held; /* see call.h */
    struct buffer output;            /* what the socket has not taken yet begins at output_taken */
    size_t output_taken;
    uint64_t stream_end; /* bytes given to this socket, those in output included */
    struct reply_reader reader;
};

void pipeline_init(struct pipeline *pipeline, struct transport *transport, bool durable,
                   const struct pipeline_events *events);
/* Without calls. */
void pipeline_free(struct pipeline *pipeline);
/* For a new socket: nothing written, nothing read. */
void pipeline_reset(struct pipeline *pipeline);
/* After the socket was closed: held calls succeed, without replicas. Returns the calls that await a
 * reply; the caller clears the list in their states. */
struct call_list pipeline_stop(struct pipeline *pipeline);
/* True if no reply is owed. */
bool pipeline_is_idle(const struct pipeline *pipeline);

/* Moves the queue to the output and writes all at once, unless it has to wait. */
void pipeline_send_queue(struct pipeline *pipeline, struct call_list *queue);
/* Writes one command outside of calls; its reply goes to `reply`. */
void pipeline_send(struct pipeline *pipeline, const struct text *arguments, size_t count);
/* The socket has room again. */
void pipeline_write(struct pipeline *pipeline);
/* The socket has bytes, or an error. */
void pipeline_read(struct pipeline *pipeline);
/* Bytes that this socket took. */
uint64_t pipeline_written(const struct pipeline *pipeline);
