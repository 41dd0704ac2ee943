/* A store with one link on a loop of its own, for tests against scripted nodes. */
#pragma once

#include "store.h"
#include "support_redis_node.h"

struct store_rig {
    struct conf *conf;
    struct store *store;
    uv_loop_t loop;
    uv_prepare_t prepare;
    struct store_link *link;
};

/* One call and what became of it. */
struct store_probe {
    struct store_call call;
    struct text arguments[8];
    char words[128];
    unsigned ended; /* times that `done` was called */
    enum err err;
    enum store_type type;
    char text[128]; /* of the reply, or of its first element */
    int64_t integer;
    int64_t took_ms;
    int64_t own_ms; /* the same without what threads waited for a processor: for bounds above */
    int64_t sent_ms;
    int64_t begun_ms; /* by support_clock_ms() */
};

/* The options before rig_open(): nodes at these ports, timeouts short enough for tests. */
void rig_configure(struct store_rig *rig, enum redis_mode mode, const uint16_t *ports,
                   size_t count);
/* Replaces a text option. */
void rig_set_text(char **option, const char *value);
/* Starts the store and opens the link. */
void rig_open(struct store_rig *rig);
/* Both of the above for one standalone node. */
void rig_open_standalone(struct store_rig *rig, struct redis_node *node);
/* The same for a cluster of nodes. */
void rig_open_cluster(struct store_rig *rig, struct redis_node *const *nodes, size_t count);
/* Until the servers were pinged and reported their time: for a second no ping will come between. */
void rig_wait_for_pings(struct store_rig *rig);
/* A link alone, on a store that somebody else opened; and its end. */
/* The keys that a rig's store knows of. */
extern const struct store_keys rig_keys;

void rig_open_link(struct store_rig *rig, struct store *store);
void rig_close_link(struct store_rig *rig);
/* Closes everything; asserts that nothing is left on the loop. */
void rig_close(struct store_rig *rig);

/* Sends a command, words separated by blanks; the second word is the key. */
void rig_send(struct store_rig *rig, struct store_probe *probe, const char *command, unsigned flags,
              int64_t timeout_ms);
void rig_send_script(struct store_rig *rig, struct store_probe *probe,
                     const struct store_script *script, int64_t timeout_ms);
/* Runs the loop until all of them have ended; fails after 5 s. */
void rig_wait(struct store_rig *rig, struct store_probe *probes, size_t count);
/* Runs the loop for so long. */
void rig_run(struct store_rig *rig, int64_t milliseconds);
/* Send and wait. */
void rig_call(struct store_rig *rig, struct store_probe *probe, const char *command, unsigned flags,
              int64_t timeout_ms);
