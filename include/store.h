/* The Redis client: cluster and standalone, one deadline a call, every outcome one of our errors.
 *
 * A struct store belongs to the process: seeds, credentials, the published slot map, and the thread
 * that fetches it. A struct store_link belongs to one worker and its loop: connections and calls in
 * flight. None of its functions blocks or locks; call them on that thread only. All calls of one
 * loop turn leave in one write per connection.
 *
 * Each worker has two connections to a node: data, and durable, where one WAIT 1 follows the writes
 * of a flush. So waiting holds up no read.
 *
 * Redirections and errors (Redis cluster specification; redis 7.0 error replies):
 *
 * - MOVED: followed at once; the map is fetched again (coalesced, rate limited). An empty host
 *   means the answering node's host; IPv6 and host names are understood.
 *
 * - ASK: followed once with ASKING; the map stays.
 *
 * - Both are followed to members of the cluster (masters and replicas of the map, what CLUSTER
 *   NODES lists) and to the configured nodes alone. With another target the map is fetched again
 *   and the call repeated after a pause. Without a cluster they are STORE_UNFIT.
 *
 * - TRYAGAIN, LOADING, BUSY: repeated after a pause with jitter, within the deadline; then
 *   STORE_UNAVAILABLE.
 *
 * - READONLY, CLUSTERDOWN, MASTERDOWN: the same, and the map is fetched again.
 *
 * - NOSCRIPT: EVALSHA becomes EVAL, once.
 *
 * - NOAUTH, WRONGPASS, NOPERM, DENIED: STORE_DENIED, not repeated.
 *
 * - No cluster in cluster mode, a redirection in the others: STORE_UNFIT, not repeated.
 *
 * - OOM, MISCONF, NOREPLICAS: STORE_REFUSED, not repeated.
 *
 * - Any other error: STORE_PROTOCOL, or STORE_UNFIT while a master is of an unsupported version.
 *
 * - Garbage, closed: the connection is closed; calls that are `repeatable` or not sent yet are
 *   repeated on a fresh connection. Others end with STORE_UNAVAILABLE: their write is unknown.
 *
 * - An open breaker (breaker.h), or no slot map while none can be fetched: STORE_UNAVAILABLE at
 *   once, in the next turn of the loop. The breaker counts as failures: no connection, no answer in
 *   time, an answer later than 80 % of redis.timeout (not of durable calls), LOADING, BUSY,
 *   CLUSTERDOWN, MASTERDOWN. Every other answer is a success.
 *
 * - Deadline: STORE_TIMEOUT if a node was asked, and the connection that owes the answer is closed,
 *   never reused; STORE_UNAVAILABLE if not. A durable call whose reply is in and whose WAIT is late
 *   succeeds, with no replicas. */
#pragma once

#include <uv.h>

#include "breaker.h"
#include "conf.h"
#include "err.h"
#include "ids.h"
#include "memory.h"

/* A reply, without types of hiredis. Valid during the callback. */
enum store_type { STORE_NIL, STORE_STRING, STORE_INTEGER, STORE_ARRAY, STORE_STATUS };
struct store_reply;
enum store_type store_reply_type(const struct store_reply *reply);
/* Bytes of a string or status; an absent text for everything else. */
struct text store_reply_text(const struct store_reply *reply);
/* Reads an integer, or a string that spells one, within [minimum, maximum]. False otherwise; *ret
 * is unchanged. */
bool store_reply_int(const struct store_reply *reply, int64_t minimum, int64_t maximum,
                     int64_t *ret);
size_t store_reply_count(const struct store_reply *reply);
/* Element of an array; NULL past its end. */
const struct store_reply *store_reply_element(const struct store_reply *reply, size_t index);

struct store;
struct store_link;

/* A Lua script, prepared once; sent as EVALSHA, or EVAL if the server lacks it. */
struct store_script {
    const char *source;
    char sha1[41]; /* filled by store_script_prepare() */
};
void store_script_prepare(struct store_script *script);

enum store_flags {
    STORE_REPEATABLE = 1,   /* a read, or a write that may be applied twice: may be sent again when
                               its fate is unknown */
    STORE_DURABLE = 2,      /* goes over the durable connection; `replicas` tells what WAIT said */
    STORE_REPLICA_READ = 4, /* a read that may be a little old: a replica in redis.near_replicas, if
                       there is one that answers, else the master */
    STORE_DISPENSABLE = 8,  /* NOPERM is about this command alone: the connection stays */
};

struct store_call;
/* The end of a command. */
typedef void store_done_fn(struct store_call *call, enum err err, const struct store_reply *reply);

/* One command in flight; lives in the caller's memory from store_send() until `done`. The caller
 * sets the first group. */
struct store_call {
    struct text key;                   /* routes the call (hash tag rule); must stay until done */
    const struct store_script *script; /* NULL for a plain command */
    const struct text *arguments; /* plain: the whole command. Script: what follows the key, which
                                     is KEYS[1]. Copied by store_send(). */
    size_t argument_count;
    unsigned flags;
    int64_t deadline_ms; /* clock_monotonic_ms() */
    store_done_fn *done;

    int64_t replicas; /* result of WAIT for durable calls, else 0 */

    /* Private to the store. */
    struct store_call *next, *previous;
    struct store_call_state *state;
};

/* The keys that the store itself needs. */
struct store_keys {
    const struct text *tracked; /* prefixes: changes of these keys are reported (store_listen()) */
    size_t tracked_count;       /* at most STORE_TRACKED_MAX */
    const char *probe;          /* prefix of keys that are read to see whether a master of a cluster
                                   serves: "PROBE{number}", which need not exist */
};
#define STORE_TRACKED_MAX 4

/* Starts the control thread and fetches the slot map in the background; the process is usable at
 * once, degraded until there is a map. `keys` must outlive the store. NULL with *error only for a
 * configuration that cannot work, like an unreadable password file. */
struct store *store_start(const struct conf *conf, const struct store_keys *keys,
                          struct buffer *error);
/* New seeds, credentials, timeouts. Existing connections stay. False with *error: nothing changed.
 */
bool store_reload(struct store *store, const struct conf *conf, struct buffer *error);
/* Identifies this store: a field of a hash in it begins with these hexadecimal digits, 40 at most.
 * It matters when an address comes to belong to another Redis:
 *
 * - Servers of a cluster are known by their ids. A map that shares no id with the present one is
 *   another cluster's, unless that cluster has the mark: then it is a copy that replaces ours. A
 *   server other than the one that the map names gets no calls.
 *
 * - A server without cluster gets no calls if it has another mark. A server without a mark gets
 *   calls: it may be ours, emptied.
 *
 * Without a mark every map is accepted, as the first one always is. Any thread. */
struct store_mark {
    char key[80], field[16];
    char digits[41];
};
void store_set_mark(struct store *store, const struct store_mark *mark);
/* Stops the control thread. Close all links before. */
void store_stop(struct store **store);

/* Health for /readyz and metrics: any thread. */
struct store_health {
    bool map_known;
    unsigned masters;       /* in the map */
    unsigned slots_covered; /* of 16384; standalone: all */
    int64_t map_age_ms;
    bool serving;    /* the latest calls got through to the store */
    bool time_asked; /* a server has answered TIME, or denied it to this user */
    bool was_whole;  /* at some time since the start the map had all slots */
    /* "HOST:PORT: reason", each empty if there is none. */
    char problems[448]; /* the latest server that could not be reached, and still cannot */
    char error[448];    /* the latest lasting error, if at most a few seconds old */
    char fault[448];    /* a master that by its own INFO is unusable, or will lose sessions */
    char foreign[448];  /* the latest server found to belong to another store, if lately */
};
void store_health(const struct store *store, struct store_health *ret);

/* The nodes of the map with their breakers, for /readyz. Returns how many, at most `most`. */
struct store_node_health {
    char host[254];
    uint16_t port;
    enum breaker_state breaker;
    bool tracked; /* its tracking connection is up */
};
size_t store_nodes(const struct store *store, struct store_node_health *ret, size_t most);

/* --- tracking keys (src/redis/tracking/tracking_connection.c) ---
 *
 * The control thread has one tracking connection to each master. It receives every change of keys
 * with the tracked prefixes (CLIENT TRACKING ON REDIRECT to itself, BCAST; Redis documentation,
 * "Client-side caching in Redis"), and is pinged every 250 ms. While it is up it is a *generation*:
 * a number that is never used twice. Keys read under a generation have not changed since, unless
 * the listener was called, up to the generation's proof: the time at which the last answered ping
 * was sent. A slot without a generation is not tracked: its connection is down, or its master does
 * not serve, or says that the slot is not, or not wholly, its own. */
struct store_listener {
    void *user;
    /* Called on the control thread; must not block. */
    void (*changed)(void *user, struct text key);
    /* Slots whose server may have lost writes, one bit each (bit slot % 8 of byte slot / 8).
     * `owner_changed`: another server answers for them now; else the same server was away. */
    void (*doubted)(void *user, const uint8_t slots[SLOT_COUNT / 8], bool owner_changed);
};
/* Calls this listener from now on, first with doubts about every slot. NULL: no listener, and no
 * call is running when this returns. Any thread but the control thread. */
void store_listen(struct store *store, const struct store_listener *listener);
/* The present generation of a slot, 0 if it is not tracked. Any thread, an atomic read. */
uint32_t store_generation(const struct store *store, unsigned slot);
/* The same for a read that this link is about to send. Also 0 while the link lacks the latest
 * map, since its read may then go to a different server. */
uint32_t store_link_generation(const struct store_link *link, unsigned slot);
/* The proof of a generation, also of an ended one, clock_boot_ms(). INT64_MIN if it is no longer
 * known. Any thread, atomic reads. */
int64_t store_proof_ms(const struct store *store, uint32_t generation);
/* The time until which to wait if there is an alternative, like a replica's master or a stale
 * entry: a quarter of the time left. So a server that hangs does not use it up. */
static inline int64_t store_patience_ms(int64_t now_ms, int64_t deadline_ms)
{
    return now_ms + (deadline_ms - now_ms) / 4;
}
/* How old a proof may be. */
#define STORE_PROOF_MAX_MS 1000

struct store_link *store_link_open(struct store *store, uv_loop_t *loop);
/* Sends, or queues until the connection is up. `done` is called exactly once, from the loop, never
 * from inside store_send(). */
void store_send(struct store_link *link, struct store_call *call);
/* Writes the calls that this loop turn queued; call at the end of each turn (uv_prepare). */
void store_flush(struct store_link *link);
/* Number of calls not done. */
size_t store_link_pending(const struct store_link *link);
/* Ends calls with SHUTTING_DOWN, closes connections; the loop must run once more before it is
 * closed. */
void store_link_close(struct store_link **link);

/* Slot of a key: CRC16/XMODEM mod 16384 over the part in the first {} if that is not empty (cluster
 * specification, "Hash tags"). */
unsigned store_slot(struct text key);
