/* A scripted Redis node on an ephemeral port of loopback, in a thread of its own.
 *
 * PING, TIME and CLUSTER SLOTS are answered on every connection without a script, because the
 * control thread sends them when it likes. Every other command takes the next EXPECT, whichever
 * connection it comes over; the steps after it act on that connection up to the next EXPECT. A
 * command without an EXPECT to match is a failure, reported by redis_node_stop(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum redis_step_kind {
    REDIS_EXPECT,      /* a command: its arguments joined by blanks, as a pattern of fnmatch(3),
                          FNM_EXTMATCH */
    REDIS_SEND,        /* bytes */
    REDIS_SEND_SLICED, /* bytes, each in a packet of its own */
    REDIS_SLEEP,       /* milliseconds, for the whole node */
    REDIS_CLOSE,       /* the connection */
    REDIS_ALWAYS,      /* last step: from now on every command gets these bytes */
};

struct redis_step {
    enum redis_step_kind kind;
    const char *text;
    int milliseconds;
};

#define EXPECT(pattern)                         \
    {                                           \
        .kind = REDIS_EXPECT, .text = (pattern) \
    }
#define SEND(bytes)                         \
    {                                       \
        .kind = REDIS_SEND, .text = (bytes) \
    }
#define SEND_SLICED(byte)                         \
    {                                             \
        .kind = REDIS_SEND_SLICED, .text = (byte) \
    }
#define SLEEP(ms)                                 \
    {                                             \
        .kind = REDIS_SLEEP, .milliseconds = (ms) \
    }
#define CLOSE()             \
    {                       \
        .kind = REDIS_CLOSE \
    }
#define ALWAYS(bytes)                         \
    {                                         \
        .kind = REDIS_ALWAYS, .text = (bytes) \
    }
/* An array of steps and its length. */
#define SCRIPT(...)                           \
    (const struct redis_step[]){__VA_ARGS__}, \
        sizeof((const struct redis_step[]){__VA_ARGS__}) / sizeof(struct redis_step)

struct redis_node;

/* Listens, without a script: every command is a failure. Port 0: any. */
struct redis_node *redis_node_start(uint16_t port);
uint16_t redis_node_port(const struct redis_node *node);
/* Appends steps; the texts are copied. */
void redis_node_script(struct redis_node *node, const struct redis_step *steps, size_t count);
/* The reply to CLUSTER SLOTS from now on; NULL: an error, as from a server without cluster. */
void redis_node_slots(struct redis_node *node, const char *reply);
/* From now on this AUTH command is needed: others get WRONGPASS, commands on a connection without
 * it get NOAUTH. Neither takes a step. */
void redis_node_require(struct redis_node *node, const char *auth);
/* From now on commands of this pattern get this reply and take no step; it replaces the one before;
 * NULL: as at first. To begin with: nil for the reads by which a master of a cluster is pinged,
 * PINGED_BY, and errors for CLUSTER NODES and CLUSTER MYID. */
void redis_node_answer(struct redis_node *node, const char *pattern, const char *reply);
#define PINGED_BY "GET sd:e:{*([0-9])}"
/* How many commands of that pattern came so far. */
unsigned redis_node_answered(struct redis_node *node, const char *pattern);
/* While it is frozen it neither reads, writes nor accepts; the kernel does for it what it can. */
void redis_node_freeze(struct redis_node *node, bool frozen);
/* From now on the commands of a tracking connection are answered and take no step: CLIENT ID,
 * CLIENT TRACKING as store.h has it, SUBSCRIBE, and PING of a subscriber. */
void redis_node_allow_watch(struct redis_node *node);
/* Sends these bytes to every subscriber. */
void redis_node_publish(struct redis_node *node, const char *bytes);
/* Closes every subscriber's connection. */
void redis_node_drop_watches(struct redis_node *node);
/* While it is mute, pings of subscribers get no answer. */
void redis_node_mute(struct redis_node *node, bool mute);
/* The answer to CLUSTER SLOTS in which the node on this port of 127.0.0.1 owns first to last. */
const char *redis_node_range(char out[128], unsigned first, unsigned last, uint16_t port);

/* Scripted commands, AUTH commands, answers to CLUSTER SLOTS, accepted connections so far. */
unsigned redis_node_commands(struct redis_node *node);
unsigned redis_node_auths(struct redis_node *node);
unsigned redis_node_maps_asked(struct redis_node *node);
unsigned redis_node_accepted(struct redis_node *node);
/* Subscriptions so far. */
unsigned redis_node_watches(struct redis_node *node);
/* Most scripted commands that came with one read. */
unsigned redis_node_most_at_once(struct redis_node *node);

/* Closes, frees, clears. Fails the test if a command came that was not expected, or steps are left.
 */
void redis_node_stop(struct redis_node **node);
