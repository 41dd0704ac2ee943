/* The domain: operations on sessions. One function begins each operation. It ends by a call of
 * `done` on the same loop, maybe before that function returns.
 *
 * An operation lives in the caller's memory until `done`. Its texts are borrowed from the request's
 * arena, and its results lie there too. Times are wall-clock milliseconds unless named _s. */
#pragma once

#include "cache.h"
#include "conf.h"
#include "crypto.h"
#include "err.h"
#include "etag.h"
#include "journal.h"
#include "memory.h"
#include "store.h"
#include "tenants.h"
#include "token.h"

/* Prepares the domain's scripts. Call once, before the first operation. */
void session_prepare(void);

/* State of the domain for the whole process: the user states that this node has seen, and the
 * refresher, a thread that replays the journal and re-reads users changed by other nodes. */
struct session_service;
/* Borrows cache, tenants and journal, which must outlive the service; takes a reference of the
 * keyring. It listens to the store, so call it before links are opened. */
struct session_service *session_service_start(struct store *store, struct cache *cache,
                                              struct tenants *tenants, struct journal *journal,
                                              struct keyring *keyring);
void session_service_rekey(struct session_service *service, struct keyring *keyring);
/* How the keys of this node compare with the marks in Redis. All nodes on one Redis must have the
 * same key file. */
enum session_keys {
    SESSION_KEYS_UNASKED, /* no answer and no failure yet */
    SESSION_KEYS_UNKNOWN, /* Redis did not answer */
    SESSION_KEYS_AGREE,
    SESSION_KEYS_MISSING, /* newer keys are missing here */
    SESSION_KEYS_FOREIGN  /* some keys differ: no token can be judged */
};
/* Returns the state. *ids, unless NULL, gets the keys that are missing or differ: bits by key id,
 * bit 0 for the names secret. Any thread; atomic reads. */
enum session_keys session_keys(const struct session_service *service, uint64_t *ids);
/* Prints "the names secret, key 3" for people, cut to `size`. */
enum { SESSION_KEYS_NAMES = 544 };
void session_keys_name(uint64_t ids, char *out, size_t size);
/* All workers must be closed before. */
void session_service_stop(struct session_service **service);
/* When the cache entry was last known to be fresh, clock_boot_ms(). Has the form that cache_save()
 * wants; `service` is its user pointer. */
int64_t session_entry_verified(void *service, const struct cache_entry *entry);

/* Work that goes on in a later turn of a worker's loop. Embedded in the memory of its owner. */
struct turn {
    void (*run)(struct turn *turn);
    struct turn *next;
};

/* A worker's part of the domain, with its own link to the store. Used from its own loop only. */
struct session_worker;
struct session_worker *session_worker_open(struct session_service *service, uv_loop_t *loop);
/* Sends what this loop turn has queued. Call at the end of each turn. */
void session_worker_flush(struct session_worker *worker);
/* Ends all operations in flight with SHUTTING_DOWN. The loop must run once more before it is
 * closed. */
void session_worker_close(struct session_worker **worker);
/* Prefetches the cached data of the token's user, before an operation with it begins. The token may
 * be forged. */
void session_expect(struct session_worker *worker, struct text token);
/* The last known policy of a tenant, fresh or not; the defaults if none is known. No I/O and no
 * lock: for decisions before an operation begins. */
void session_known_policy(struct session_worker *worker, const struct conf *conf,
                          const uint8_t tag[TENANT_TAG], struct policy *ret);

/* The worker, keys and locations that an operation uses. */
struct session_context {
    struct session_worker *worker;
    struct keyring *keyring;
    struct location_db *locations; /* NULL: no database */
};

/* The reason codes of api.md. Callers may give reasons of their own. */
#define REASON_MALFORMED        "malformed"
#define REASON_UNKNOWN          "unknown"
#define REASON_EXPIRED          "expired"
#define REASON_IDLE             "idle"
#define REASON_LOGGED_OUT       "logged_out"
#define REASON_KICKED           "kicked"
#define REASON_REPLACED         "replaced"
#define REASON_PASSWORD_CHANGED "password_changed"
#define REASON_FROZEN           "frozen"
#define REASON_REFRESH_REUSE    "refresh_reuse"
#define REASON_REUSE            "reuse"
#define REASON_REPEATED         "repeated"
#define REASON_REVOKED          "revoked"
#define REASON_BINDING          "binding"
#define REASON_BINDING_FAMILY   "binding_family"
#define REASON_INSUFFICIENT     "insufficient_authentication"
/* True for reasons that state what the service itself found or did. Callers may not use these, or a
 * dead token would report something that never happened. */
bool session_owns_reason(struct text word);

/* How safely a change is stored: ended.durability of api.md. */
enum durability { DURABILITY_NONE, DURABILITY_REPLICATED, DURABILITY_ACCEPTED, DURABILITY_PENDING };
/* "replicated", "accepted", "pending"; an absent text for NONE. */
struct text operation_durability_name(enum durability durability);

/* The policy member that must allow the operation, if any: of self_service, or force_logout. */
enum permission {
    PERMISSION_NONE,
    PERMISSION_SELF_DEVICES,
    PERMISSION_SELF_KICK,
    PERMISSION_SELF_LOGOUT_ALL,
    PERMISSION_FORCE_LOGOUT
};

/* The user's address and device as the caller states them; bindings are checked against these. An
 * absent text: not stated. An empty fingerprint: the device has none. An ip that is no address:
 * none is known. */
struct client_claims {
    struct text ip, fingerprint;
};

/* A challenge as the caller gets it. */
#define CHALLENGE_CODE 6
struct offered_challenge {
    char id[TOKEN_LENGTH];
    enum verify_method method;
    int64_t expires_s;
    int64_t attempts;          /* attempts that are left */
    char code[CHALLENGE_CODE]; /* VERIFY_OTP: for the service to deliver, never for the user */
};

/* How the user of a session has authenticated, as the service says that checked it. */
#define AMR_MAX 8 /* most methods that a service may state */
struct authentication {
    int64_t auth_s;  /* when, seconds since 1970; 0: unknown */
    struct text acr; /* its class, a conf_is_acr(); absent: unknown */
    uint32_t amr;    /* its methods, bits by session_find_amr() */
};
/* The bit of a method, one of the words of RFC 8176, section 2; 0: no such word. */
uint32_t session_find_amr(struct text word);
/* The word of the method with this number, which is the bit's; absent behind the last one. */
struct text session_amr_word(unsigned number);

/* How strongly a caller demands that the user has authenticated (RFC 9470). A session that does not
 * know its time or class of authentication meets no demand about it. */
#define STRENGTH_MAX_AGE INT32_MAX
struct strength_demand {
    int64_t max_age_s; /* most seconds since then, 0 to STRENGTH_MAX_AGE; -1: not asked */
    struct text acr; /* at least this class (auth.acr_order; a conf_is_acr()); absent: not asked */
};

/* The outcome of an operation. */
struct outcome {
    enum err err;            /* ERR_OK, or the reason of the failure */
    struct text detail;      /* a sentence about a refusal, where the error code is not enough */
    struct text reason;      /* of a dead token or ended session (api.md), else absent */
    int64_t retry_after_s;   /* when the refusal ends, if known; 0: by the error's default */
    bool forged;             /* the token was never issued here */
    bool reused;             /* a refresh token was used twice: somebody has a copy */
    bool repeated;           /* within the grace period: the same pair again */
    bool repeated_apart;     /* from another network or fingerprint, the pair given or not */
    struct text ended_actor; /* who ended the session, with its tombstone */
    int64_t ended_at_s;      /* when it ended; 0: unknown */
    enum durability durability;
    const struct text *ended; /* ids of the sessions that this operation ended */
    size_t ended_count;
    /* The challenge of ERR_VERIFICATION_REQUIRED and ERR_STEP_UP_REQUIRED, else NULL. */
    struct offered_challenge *challenge;
    struct strength_demand demanded; /* ERR_INSUFFICIENT_AUTHENTICATION: what the session lacks */
};

/* Subject of the operation for the audit line, as far as known. */
struct facts {
    struct text tenant;
    struct text user_id;
    struct text session_id; /* 16 hex digits */
    struct text device_id;
    struct text device_type;
    struct text binding; /* what differs from the session's login: "ip", "device", "ip device" */
};

/* The common part, first member of every operation. */
struct operation {
    /* The call. Set by the caller and never changed. */
    struct session_context *context;
    struct arena *arena;
    const struct conf *conf;
    int64_t now_ms;      /* wall clock when the request was complete */
    int64_t deadline_ms; /* clock_monotonic_ms(); one deadline for all store calls */
    void (*done)(struct operation *operation);
    /* For session_validate(): the time by which the caller answers, clock_monotonic_ms(), if that
     * is before the deadline; 0: the deadline. Store calls go on until the deadline, and what they
     * bring is kept in memory. If the operation itself goes on, too, `overdue` is called then: the
     * caller answers with the results, or with the error unless ERR_OK. `done` follows. */
    int64_t answer_by_ms;
    void (*overdue)(struct operation *operation, enum err err);
    void *owner;       /* the caller's pointer, untouched */
    struct text actor; /* who acts: X-Operator, the key's name, or "self" */
    enum permission permission;
    struct client_claims claims;

    struct outcome out;
    struct facts facts;

    /* The tenant's policy and cutoff. Borrowed during `done`; NULL if the operation ended before
     * they were known. */
    struct tenant *tenancy;
    enum err tenancy_unknown; /* why they are unknown, and the defaults apply */
    int64_t tenancy_age_ms;   /* in an outage: how long ago they were last fresh; else 0 */

    /* Private to the domain. */
    struct {
        bool bears_token; /* a genuine token was shown: its owner and session follow */
        struct user_tag bearer;
        uint8_t bearer_session[SESSION_ID];
        bool names_sought; /* every source of the bearer's names was asked */
        bool tenancy_held;
        int64_t tenancy_asked_ms; /* with tenancy_age_ms: when Redis was asked */
    } own;
};

/* A token pair as its holder gets it. */
struct issued_pair {
    char access_token[TOKEN_LENGTH], refresh_token[TOKEN_LENGTH];
    int64_t access_expires_s, refresh_expires_s;
    int64_t idle_expires_s;  /* as in struct validate */
    struct text device_json; /* the session's device as callers see it, a JSON object */
    struct text roles_json;  /* its roles, a JSON array */
    bool remember;           /* as at the login */
};

struct device {
    struct text id, type, name, fingerprint; /* only a hash of the fingerprint is stored */
};

struct replaced_session {
    struct text session_id;
    struct text device_json; /* the device as callers saw it, a JSON object */
    struct text reason;
};

struct login {
    struct operation base;
    struct text tenant, user_id; /* checked by the caller against the grammar of api.md */
    const struct text *roles;
    size_t role_count;
    struct device device;
    struct text ip, user_agent;
    struct text attributes; /* a JSON object, or absent */
    bool remember;
    bool second_factor; /* the service has checked one: adds the method mfa */
    struct authentication authentication;
    struct text grants;  /* who granted which role: src/session/model/grants.h; absent: not known */
    bool cookie;         /* for the caller: the response sets the session cookie */
    int64_t verified_ms; /* when the additional verification behind it began; 0: there was none */
    uint8_t verified_id[SESSION_ID]; /* the id of its challenge */

    struct issued_pair pair;
    int64_t limit; /* ERR_DEVICE_LIMIT: the number of devices allowed */
    bool new_device,
        new_location;    /* not seen with this user; src/session/operations/login_risk.h */
    bool first_location; /* the user has no known location */
    struct replaced_session *replaced;
    size_t replaced_count;
};
void session_login(struct login *login);

/* Answers a challenge and continues what waits for it. A login then looks as after session_login(),
 * with second_factor set. A step-up of an active session sets only `login.pair`: the next pair as
 * after a refresh, or, if it raises the session's strength, one as after session_authenticated().
 */
struct verify {
    struct login login; /* its base is the operation's; the rest is filled in */
    struct text challenge_id;
    struct text code; /* for VERIFY_OTP; else absent */
    bool verified; /* for VERIFY_EXTERNAL. Set for another method: ERR_BODY_INVALID, as is `code` */
    struct authentication stated; /* its members replace those of the login or session */
    struct text tenant;
    bool tenant_bound; /* as in struct validate */

    bool of_session;       /* the challenge was a step-up of an active session, no login */
    int64_t attempts_left; /* ERR_VERIFICATION_FAILED */
};
void session_verify(struct verify *verify);

/* Looks up one access token. With `touch` it also records the use, without waiting for that
 * write. */
struct validate {
    struct operation base;
    struct text token; /* as the client sent it */
    bool touch;
    /* If present, the token must be of this tenant. Otherwise ERR_TENANT_FORBIDDEN when
     * tenant_bound, else ERR_TOKEN_INVALID with reason unknown. */
    struct text tenant;
    bool tenant_bound;
    /* As in struct strength_demand; each caller sets both. ERR_INSUFFICIENT_AUTHENTICATION if the
     * token is valid, but of a session too old or too weak. */
    int64_t max_age_s;
    struct text acr;

    struct token parsed;      /* valid once the MAC held; wiped when the operation ends */
    struct text session_json; /* JSON members, ready to send */
    int64_t issued_s;         /* when the session's present pair was issued */
    int64_t access_expires_s;
    int64_t idle_expires_s; /* without an idle limit: the end of the session */
    bool bound;             /* the policy checks the session's bindings at each use */
    bool from_cache;
    bool stale; /* answered from memory in an outage; was fresh stale_for_s ago */
    int64_t stale_for_s;
};
void session_validate(struct validate *validate);
/* The roles of an accepted validation, at most `most` of them, in the operation's arena. Returns
 * how many. */
size_t session_validated_roles(const struct validate *validate, struct text *ret, size_t most);

/* A signed identity: a JWT (RFC 9068) that states who the session's user is. */
struct signed_identity {
    struct text jwt;   /* in the operation's arena */
    int64_t expires_s; /* at the latest with the token and the idle session */
};
/* Why there is none: the session misses a condition of the audience, or the node has no key. */
enum identity_verdict {
    IDENTITY_SIGNED,
    IDENTITY_OF_OTHER_TENANT,
    IDENTITY_WITHOUT_ROLE,
    IDENTITY_TOO_WEAK, /* too old, or of too weak an authentication */
    IDENTITY_WITHOUT_KEY
};
/* Signs the identity of an accepted validation for an audience of its configuration, or repeats a
 * signature that states the same and has more than half its lifetime left. It decides nothing: the
 * validation did, in the same call. No I/O; about 20 µs for a new signature. */
enum identity_verdict session_sign_identity(const struct validate *validate,
                                            const struct audience *audience,
                                            struct signed_identity *ret);

/* Looks up many access tokens. Their reads leave together, one write per node and turn of the loop;
 * a long batch is begun in pieces, one a turn, so that others get the worker in between. */
struct validate_batch {
    struct operation base; /* its outcome is ERR_OK; the items have their own */
    /* The caller sets in each what struct validate takes, and its claims; the rest of the common
     * part comes from `base`. Valid until the memory of `base` is. */
    struct validate *items;
    size_t count; /* at least 1 */

    struct turn turn; /* private to the domain, as the next two */
    size_t begun, ended;
};
void session_validate_batch(struct validate_batch *batch);

/* The user of the session has authenticated again: `authentication` replaces what the session
 * knows, as a whole, since a new time with an old class would be a false claim. The session gets a
 * pair from fresh randomness. The pair before is over at once, and nobody who holds it gets the new
 * one. Needs Redis. */
struct authenticated {
    struct operation base;
    struct text token;
    struct text tenant;
    bool tenant_bound;                    /* as in struct validate */
    struct authentication authentication; /* auth_s 0: now */

    struct issued_pair pair;
};
void session_authenticated(struct authenticated *authenticated);

struct refresh {
    struct operation base;
    struct text refresh_token, ip;
    struct text tenant;
    bool tenant_bound; /* as in struct validate; for services, absent for users */

    struct issued_pair pair;
};
void session_refresh(struct refresh *refresh);

/* An active session in the list of its user. */
struct listed_session {
    struct text session_id;
    struct text session_json;        /* includes "device":{…} and created_at */
    struct text device_json;         /* the device object of session_json */
    struct text authentication_json; /* its members auth_time, acr, amr; empty if none is known */
    struct text ip, user_agent;
    struct text location; /* of the address, if the database knows it */
    int64_t created_s, last_seen_s, expires_s;
    bool current;
};

/* An ended session of a user. */
struct ended_session {
    struct text session_id;
    struct text reason, actor;  /* actor: absent if it ended by itself */
    int64_t created_s, ended_s; /* ended_s: 0 if unknown */
    struct text device_json;    /* absent once the record is gone */
};

/* Freeze and cutoff of a user. */
struct user_status {
    bool frozen;
    struct text frozen_reason;
    int64_t frozen_until_s; /* 0: until it is lifted */
    int64_t not_before_s;
};

struct list_devices {
    struct operation base;
    struct text token; /* either the user's own access token, validated first ... */
    struct text tenant;
    bool tenant_bound;   /* as in struct validate */
    struct text user_id; /* ... or, with token absent, tenant and user_id */

    struct listed_session *sessions; /* newest first */
    size_t count;
    int64_t limit;
    struct user_status user;
    struct ended_session *over; /* last ended first, as far as the user's state has them */
    size_t over_count;
};
/* Lists the active sessions of the token's owner or of the named user, and the user's status. */
void session_list(struct list_devices *list);

/* A page of a tenant's users with active sessions. Needs Redis. ERR_QUERY_INVALID for an invalid
 * page_token.
 *
 * Pages are in no order; within a page the newest login comes first. A user active during the whole
 * walk is listed at least once. A user active meanwhile may be listed twice. */
struct listed_user {
    struct text user_id;
    struct listed_session *sessions; /* newest first */
    size_t count;
};
struct list_tenant {
    struct operation base;
    struct text tenant;
    int64_t page_size;
    struct text page_token; /* absent: the first page */

    struct listed_user *users; /* may be fewer than page_size, even none, before the last page */
    size_t count;
    struct text next_page_token; /* absent: this was the last page */
    int64_t total;               /* of users */
    int64_t total_error;         /* at most so many of them may have been idle for too long */
};
void session_list_tenant(struct list_tenant *list);

/* Attributes: one JSON object that callers keep with a session. Every validation returns it. */
#define ATTRIBUTES_MAX 4096 /* bytes of compact JSON */
enum attributes_action { ATTRIBUTES_GET, ATTRIBUTES_PUT, ATTRIBUTES_PATCH };
struct attributes {
    struct operation base;
    struct text token; /* of the session */
    struct text tenant;
    bool tenant_bound; /* as in struct validate */
    enum attributes_action action;
    struct text given; /* PUT: the object, compact JSON; PATCH: the merge patch (RFC 7396) */
    struct etag_list if_match; /* the condition of a change */

    struct text json;       /* the attributes now: one object, compact */
    char etag[ETAG_LENGTH]; /* of this session with these attributes */
};
/* Reads or changes the attributes. Needs Redis; parallel changes are never lost. Errors:
 * ERR_PRECONDITION_FAILED, ERR_TOO_LARGE, ERR_BODY_INVALID for an invalid merge patch. */
void session_attributes(struct attributes *attributes);

/* Ends sessions: kick (END_ONE), logout (END_OWN, the session of `token`) and logout-all
 * (END_ALL). */
enum end_scope { END_ONE, END_OWN, END_ALL };
struct end_sessions {
    struct operation base;
    struct text token; /* as in list_devices, but any token ever issued for a session may end it: by
                          END_OWN (also a refresh token; a dead one ends 0 sessions), or by END_ONE
                          with that session as target */
    struct text tenant;
    bool tenant_bound;
    struct text user_id;
    enum end_scope scope;
    struct text target; /* END_ONE: session id in hex; ERR_SESSION_NOT_FOUND if unknown */
    struct text keep;   /* END_ALL: session id in hex to spare, or absent */
    bool keep_own;      /* END_ALL: spare the session of `token` */
    struct text why;    /* the tombstones' reason */

    bool own_ended; /* ERR_OK: the session of `token` is over */
};
void session_end(struct end_sessions *end);

/* Longest temporary freeze: ten years. Later ends are mistakes, mostly milliseconds. */
#define FREEZE_MOST_S (INT64_C(10) * 366 * 24 * 3600)
/* Freezes a user: all sessions end, and logins are refused until the freeze is lifted or over. A
 * freeze in an outage is kept in the journal; lifting needs Redis. */
struct freeze {
    struct operation base;
    struct text tenant, user_id;
    bool lift;
    struct text why; /* the reason that logins get; the sessions end with REASON_FROZEN */
    int64_t until_s; /* when it ends by itself, at most FREEZE_MOST_S from now; 0: never */
};
void session_freeze(struct freeze *freeze);

/* Knowledge of one source about a session, or of all together about a token. */
enum source_state {
    SOURCE_UNKNOWN, /* the source does not know the session */
    SOURCE_ACTIVE,
    SOURCE_ENDED,
    SOURCE_UNAVAILABLE /* the source cannot be asked */
};
struct source_verdict {
    enum source_state state;
    struct text reason, actor; /* SOURCE_ENDED: why and by whom, as far as known */
    int64_t at_s;              /* when it ended; 0: unknown */
};

/* Explains a token: what it is, and what memory, journal and Redis know of its session. Changes
 * nothing and is no use of the session. Every text is explained; err is set only for a bound key's
 * foreign token. */
struct explain {
    struct operation base;
    struct text token; /* as the client sent it */
    struct text tenant;
    struct text user_id, session_id; /* with token absent: a session of the tenant by name, the id
                                        in 16 hex digits */

    struct text kind;                 /* "access", "refresh", "session", "unknown" */
    struct text tenant_tag, user_tag; /* as in key names */
    int64_t created_s;                /* of the session */
    unsigned key_id;
    bool tenant_bound; /* input: as in struct validate */
    bool issued;       /* its MAC holds, or it is a session by name; else only `verdict` is known */
    bool from_cache;   /* Redis did not help: the verdict is from memory, or unknown */

    struct source_verdict verdict; /* SOURCE_UNKNOWN: no source that answered knows */
    struct source_verdict memory, journal, redis; /* each source alone */
    int64_t memory_age_s;                         /* how long ago memory was fresh ... */
    enum err redis_err;                           /* why Redis is unavailable */
    bool memory_fresh;                            /* ... or it is fresh now */
    bool journal_pending;                         /* not known to be in Redis */

    bool user_known; /* Redis was asked */
    struct user_status user;

    /* The session, if its record is known; session_json is absent otherwise. */
    struct text session_json; /* members of the JSON object "session" */
    struct text pair; /* pair of the token: "present", "previous", "older"; absent if unknown */
    int64_t issued_s, last_seen_s;
    int64_t access_expires_s, idle_expires_s, session_expires_s;
    bool remember;
};
void session_explain(struct explain *explain);

/* State of a whole tenant: shows or changes its policy, or ends all its sessions by a cutoff,
 * whatever their number. Changes need Redis; showing needs it only if nothing is known. */
#define POLICY_MAX 16384 /* bytes of a policy's compact JSON */
enum tenant_action { TENANT_SHOW, TENANT_PUT, TENANT_PATCH, TENANT_DELETE, TENANT_END_ALL };
struct tenant_call {
    struct operation base;
    struct text tenant;
    enum tenant_action action;
    struct text given;         /* PUT: the policy; PATCH: the merge patch (RFC 7396) */
    struct etag_list if_match; /* the condition of a change */
    struct text why;           /* END_ALL: the reason that dead tokens get */
    bool bound; /* the key is of this tenant, so it may not change members of the platform */

    struct text changes;    /* changes of the tenant's own policy, as JSON strings (changes.h) */
    struct text policy;     /* the effective policy, one JSON object */
    char etag[ETAG_LENGTH]; /* of this tenant with this policy */
};
/* Errors: ERR_PRECONDITION_FAILED, ERR_TOO_LARGE, ERR_BODY_INVALID with a sentence about the
 * policy, ERR_FORBIDDEN with one about a member of the platform (policy_keep_platform()). */
void session_tenant(struct tenant_call *call);
