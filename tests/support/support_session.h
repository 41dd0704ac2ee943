/* The domain on one thread, stepped by the test: nodes with all their services, on one Redis in
 * memory (support_redis_model.h) instead of the store, on the fake clock.
 *
 * Calls of the domain lie in one list in the order sent, and are served one by one when the test
 * runs the rig. A call's fate is planned by its name (redis_model_name(); "refresher:" before it
 * if a refresher sends it). Nothing happens by itself: the refresher has no thread here, and timers
 * fire only in rig_pass(). Only the journal has its own thread; a test that needs it waits for
 * the fact. */
#pragma once

#include <check.h>

#include "session.h"
#include "support_redis_model.h"

#define RIG_NOW INT64_C(1800000000000)

enum fate {
    FATE_ANSWER,
    FATE_CUT_BEFORE,   /* the connection ends before the server reads the call ... */
    FATE_CUT_AFTER,    /* ... and after it took effect. A repeatable call is sent again */
    FATE_LATE_BEFORE,  /* no answer by the deadline, to which time is moved; no effect ... */
    FATE_LATE_AFTER,   /* ... or one */
    FATE_AWAY,         /* STORE_UNAVAILABLE at once: Redis cannot be asked */
    FATE_DENIED,       /* the same with STORE_DENIED ... */
    FATE_UNFIT,        /* ... STORE_UNFIT ... */
    FATE_REFUSED,      /* ... and STORE_REFUSED */
    FATE_STRANGE,      /* an invalid reply: a status ... */
    FATE_TWO_NUMBERS,  /* ... an array of two numbers ... */
    FATE_FIVE_NUMBERS, /* ... or of five */
    FATE_HOLD,         /* held until rig_release() or its deadline ... */
    FATE_HOLD_REPLY,   /* ... it takes effect now, and is answered then */
    FATE_FORGET,       /* held until rig_release(), even past its deadline */
};

struct rig_node {
    struct store *store; /* the seam's own */
    struct cache *cache;
    struct tenants *tenants;
    struct journal *journal;
    struct session_service *service;
    struct session_worker *worker;
    struct session_context context;
    struct conf journal_conf;
    uv_loop_t loop;
    bool up;
};

enum { RIG_NODES = 3 };
extern struct session_rig {
    struct redis_model *redis;
    struct conf *conf; /* the published one; may be changed before rig_start() */
    struct keyring *keyring;
    char directory[64];
    struct rig_node nodes[RIG_NODES];
    int64_t replicas; /* replicas that get durable writes: 1 at first */
    enum fate fate;   /* of calls without a plan */
    /* Unless NULL, gets each call that took effect, and the reply's bytes. */
    void (*mirror)(const struct store_script *script, struct text key, const struct text *arguments,
                   size_t count, const struct buffer *reply);
} rig;

/* Fixtures: set-up makes a rig with the defaults and no node. Tear-down stops all nodes and checks
 * that nothing was left over. */
void rig_set_up(void);
void rig_tear_down(void);
/* A case of the suite with this fixture, which calls rig_set_up(), and rig_tear_down(). */
TCase *rig_case(Suite *suite, const char *name, void (*set_up)(void));
/* Starts the node, without tracking. */
struct rig_node *rig_start(size_t number);
/* Starts a node with other keys. */
struct rig_node *rig_start_with(size_t number, struct keyring *keyring);
void rig_stop(struct rig_node *node);
/* Starts a node with a newer key than the others, which it seals with. */
struct rig_node *rig_start_newer(size_t number);
/* Makes this node seal the session's record again. */
void rig_seal_anew(struct rig_node *node, struct text access_token);
/* The node's tracking of all slots comes up, under a new generation, with doubts; or goes down. */
void rig_watch(struct rig_node *node, bool up);
/* Tracking is up but receives nothing; the missed keys come once it hears again. */
void rig_deafen(struct rig_node *node, bool deaf);

/* Sends the node an invalidation of a key. */
void rig_tell(struct rig_node *node, struct text key);
/* The node learns that its server's state of this user of acme may be behind. `owner_changed`:
 * another server has the slot now. */
void rig_doubt(struct rig_node *node, const char *user, bool owner_changed);

/* Makes files writable or not, for the journal. */
void rig_break_disk(bool broken);

/* Plans the fate of the next call of this name, after those already planned. */
void rig_plan(const char *name, enum fate fate);
/* The same; first `hook` runs, which may do anything, including operations. */
void rig_plan_after(const char *name, enum fate fate, void (*hook)(void));
/* Drops the plans not used yet. */
void rig_forget_plans(void);
/* True if calls of this name are held. */
bool rig_holds(const char *name);
/* Releases held calls; they are served as the next calls are. */
void rig_release(void);
/* How many calls of this name were served since the start or the last rig_recount(). */
unsigned rig_served(const char *name);
void rig_recount(void);

/* Serves one call or lets the loops turn; false if there is nothing to do. */
bool rig_step(void);
/* Runs until there is nothing to do except for held calls. */
void rig_run(void);
/* Lets time pass, then acts as rig_run(). */
void rig_pass(int64_t ms);

/* --- operations --- */

/* An operation, with the memory it needs; the rig frees it. */
struct act {
    unsigned done; /* calls of `done` */
    struct arena arena;
    struct act *next;
    union {
        struct operation base; /* first member of every operation */
        struct login login;
        struct verify verify;
        struct validate validate;
        struct validate_batch batch;
        struct refresh refresh;
        struct end_sessions end;
        struct freeze freeze;
        struct list_devices list;
        struct explain explain;
        struct attributes attributes;
        struct authenticated authenticated;
        struct tenant_call tenant;
        struct list_tenant users;
    };
};
/* A zeroed one with its common part set. */
struct act *act_of(struct rig_node *node);
/* Runs the rig until the operation is done, with the work that it leaves; returns its error. */
enum err act_finish(struct act *act);
/* True if it is done. Serves nothing. */
bool act_is_done(const struct act *act);

#define RIG_TENANT TEXT("acme")
/* Begins a login of the tenant acme, without finishing it. */
struct act *act_login(struct rig_node *node, const char *user, const char *device);
struct act *act_validate(struct rig_node *node, struct text token);
struct act *act_refresh(struct rig_node *node, struct text token);
struct act *act_logout(struct rig_node *node, struct text token);
struct act *act_kick(struct rig_node *node, const char *user, struct text session_id);
struct act *act_logout_all(struct rig_node *node, const char *user);
struct act *act_freeze(struct rig_node *node, const char *user, bool lift);
struct act *act_policy(struct rig_node *node, const char *json);
struct act *act_end_tenant(struct rig_node *node);
struct act *act_list(struct rig_node *node, const char *user);
struct act *act_users(struct rig_node *node);
struct act *act_explain(struct rig_node *node, struct text token);
struct act *act_attributes(struct rig_node *node, struct text token, enum attributes_action action,
                           const char *given);

/* A finished login: its tokens, and its session. */
struct rig_session {
    char access[TOKEN_LENGTH], refresh[TOKEN_LENGTH], id[2 * SESSION_ID];
};
struct rig_session rig_login(struct rig_node *node, const char *user);
struct text rig_access(const struct rig_session *session);
struct text rig_refresh(const struct rig_session *session);
struct text rig_id(const struct rig_session *session);
/* The same with an address and a fingerprint (NULL: not stated). */
struct rig_session rig_login_from(struct rig_node *node, const char *user, const char *ip,
                                  const char *fingerprint);
struct act *act_validate_from(struct rig_node *node, const struct rig_session *session,
                              const char *ip, const char *fingerprint);
/* Validates; returns the error. */
enum err rig_validate(struct rig_node *node, const struct rig_session *session);
/* Revocations in the node's journal that are not known to be in Redis. */
size_t rig_unconfirmed(const struct rig_node *node);
/* The keys of a user of acme: 'u' the state, 'e' the epoch. Static memory. */
struct text rig_user_key(const char *user, char prefix);

/* Runs an act and compares its error with the expected one. */
#define ck_assert_act(act, expected)                                                           \
    do {                                                                                       \
        enum err err_ = act_finish(act), expected_ = (expected);                               \
        ck_assert_msg(err_ == expected_, "%s: %s, not %s", #act, err_ ? err_code(err_) : "OK", \
                      expected_ ? err_code(expected_) : "OK");                                 \
    } while (0)

#define ck_assert_text_eq(given, expected)                                                       \
    do {                                                                                         \
        struct text got_ = (given);                                                              \
        ck_assert_msg(text_equal(got_, text_of(expected)), "%s is \"%.*s\", not \"%s\"", #given, \
                      (int)got_.length, got_.data ? got_.data : "", (expected));                 \
    } while (0)
