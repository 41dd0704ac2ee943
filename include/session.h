/* The domain: what can be done with sessions. Each operation is begun by one function and ends,
 * maybe within it, by a call of `done` on the same loop.
 *
 * An operation lives in the caller's memory until done. Its texts are borrowed from the request's
 * arena, its results lie there too. Times are wall-clock milliseconds unless named _s. */
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

/* Prepares the domain's scripts; once, before the first operation. */
void session_prepare(void);

/* What the domain stands on, and what it keeps for the whole process: which users' states this node
 * has seen, and a thread, the refresher, that replays the journal and reads anew what was changed
 * by other nodes. */
struct session_service;
/* Cache, tenants and journal are borrowed and must outlive it; a reference of the keyring is taken.
 * Watches the store: before links are opened. */
struct session_service *session_service_start(struct store *store, struct cache *cache,
                                              struct tenants *tenants, struct journal *journal,
                                              struct keyring *keyring);
void session_service_rekey(struct session_service *service, struct keyring *keyring);
/* What the marks in Redis say of the keys of this node: the other nodes on the same Redis must have
 * the same key file. */
enum session_keys {
    SESSION_KEYS_UNASKED, /* no answer and no failure yet */
    SESSION_KEYS_UNKNOWN, /* Redis did not answer */
    SESSION_KEYS_AGREE,
    SESSION_KEYS_MISSING, /* newer ones are missing here */
    SESSION_KEYS_FOREIGN  /* some differ: nothing can be said of any token */
};
/* The state, and in *ids, unless NULL, the keys that are missing or differ: bits by key id, bit 0
 * for the names secret. Any thread, atomic reads. */
enum session_keys session_keys(const struct session_service *service, uint64_t *ids);
/* "the names secret, key 3": for people; cut to `size`. */
enum { SESSION_KEYS_NAMES = 544 };
void session_keys_name(uint64_t ids, char *out, size_t size);
/* Workers must be closed. */
void session_service_stop(struct session_service **service);
/* When the cache's entry was known to be true, clock_boot_ms(); `service` for its user, as
 * cache_save() wants it. */
int64_t session_entry_verified(void *service, const struct cache_entry *entry);

/* A thread's end of the domain, with its link to the store: used from its own loop alone. */
struct session_worker;
struct session_worker *session_worker_open(struct session_service *service, uv_loop_t *loop);
/* Writes what this loop turn queued; call at the end of each turn. */
void session_worker_flush(struct session_worker *worker);
/* Ends what is under way with SHUTTING_DOWN; the loop must run once more before it is closed. */
void session_worker_close(struct session_worker **worker);
/* An operation with this access token, genuine or not, is about to begin: what memory has of its
 * user is fetched meanwhile. */
void session_expect(struct session_worker *worker, struct text token);
/* The policy of a tenant as far as it is known, true or not; the defaults if nothing is. No I/O, no
 * lock: for what is decided before an operation begins. */
void session_known_policy(struct session_worker *worker, const struct conf *conf,
                          const uint8_t tag[TENANT_TAG], struct policy *ret);

/* What an operation is done with. */
struct session_context {
    struct session_worker *worker;
    struct keyring *keyring;
    struct locations *locations; /* NULL: no database */
};

/* The reason codes of api.md; a caller's own word may stand instead. */
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
/* True for words that say what the service itself found or did: no caller may give them for its
 * own, lest a dead token tell what never happened. */
bool session_owns_reason(struct text word);

/* How far a change has got: ended.durability of api.md. */
enum durability { DURABILITY_NONE, DURABILITY_REPLICATED, DURABILITY_ACCEPTED, DURABILITY_PENDING };
/* "replicated", "accepted", "pending"; an absent text for NONE. */
struct text operation_durability_name(enum durability durability);

/* What the tenant's policy must allow, if anything: a member of self_service, force_logout. */
enum permission {
    PERMISSION_NONE,
    PERMISSION_SELF_DEVICES,
    PERMISSION_SELF_KICK,
    PERMISSION_SELF_LOGOUT_ALL,
    PERMISSION_FORCE_LOGOUT
};

/* Where the caller says the user is: what sessions may be bound to. Absent texts are not told; an
 * empty fingerprint says that the device has none, an ip that is no address that none is known. */
struct client_claims {
    struct text ip, fingerprint;
};

/* A second verification that is pending, as the caller is told of it. */
#define CHALLENGE_CODE 6
struct offered_challenge {
    char id[TOKEN_LENGTH];
    enum verify_method method;
    int64_t expires_s;
    int64_t attempts;          /* tries that are left */
    char code[CHALLENGE_CODE]; /* VERIFY_OTP: for services to deliver, never for the user */
};

/* The outcome of an operation. */
struct outcome {
    enum err err;          /* ERR_OK, or why not */
    struct text detail;    /* a sentence about a refusal, where its code does not say it all */
    struct text reason;    /* of a dead token or session (api.md), else absent */
    int64_t retry_after_s; /* of a refusal that is known to end then; 0: as its error says */
    bool forged;           /* the token was never issued here */
    bool reused;           /* a refresh token that was used before: somebody has a copy */
    bool repeated;         /* one that was used before, within its grace: the same pair again ... */
    bool repeated_apart;   /* ... from another network or fingerprint, given or refused */
    struct text ended_actor; /* who ended it, with its tombstone */
    int64_t ended_at_s;      /* 0: unknown */
    enum durability durability;
    const struct text *ended; /* ids of the sessions that it ended */
    size_t ended_count;
    /* ERR_VERIFICATION_REQUIRED, ERR_STEP_UP_REQUIRED: what to do about it; else NULL. */
    struct offered_challenge *challenge;
};

/* For the audit line: whom and what it was about, as far as known. */
struct facts {
    struct text tenant;
    struct text user_id;
    struct text session_id; /* 16 hex digits */
    struct text device_id;
    struct text device_type;
    struct text binding; /* what differs from the session's login: "ip", "device", "ip device" */
};

/* The common part; first member of every operation. */
struct operation {
    /* The call: set by the caller, and left as it is. */
    struct session_context *context;
    struct arena *arena;
    const struct conf *conf;
    int64_t now_ms;      /* wall clock when the request was complete */
    int64_t deadline_ms; /* clock_monotonic_ms(): one deadline for all store calls */
    void (*done)(struct operation *operation);
    void *owner;       /* the caller's own pointer, untouched */
    struct text actor; /* who acts: X-Operator, name of the key, or "self" */
    enum permission permission;
    struct client_claims claims;

    struct outcome out;
    struct facts facts;

    /* What holds for the tenant: borrowed during `done`, NULL if the operation ended before it was
     * known. */
    struct tenant *tenancy;
    enum err tenancy_unknown; /* why nothing is known of it, and the defaults stand for it */
    int64_t tenancy_age_ms;   /* Redis not answering, since when it is not known to be true; or 0 */

    /* The domain's own, while it is under way. */
    struct {
        bool bears_token; /* a genuine one was shown: whose it is, and of which session */
        struct user_tag bearer;
        uint8_t bearer_session[SESSION_ID];
        bool names_sought; /* whoever could tell the bearer's names was asked */
        bool tenancy_held;
        int64_t tenancy_asked_ms; /* with tenancy_age_ms: when Redis was asked */
    } own;
};

/* A pair of tokens as its holder gets it. */
struct issued_pair {
    char access_token[TOKEN_LENGTH], refresh_token[TOKEN_LENGTH];
    int64_t access_expires_s, refresh_expires_s;
    int64_t idle_expires_s;  /* as in validate */
    struct text device_json; /* the session's device as shown, a JSON object */
    bool remember;           /* as at the login */
};

struct device {
    struct text id, type, name, fingerprint; /* of the fingerprint a hash is kept */
};

struct replaced_session {
    struct text session_id;
    struct text device_json; /* the device object it was shown with */
    struct text reason;
};

struct login {
    struct operation base;
    struct text tenant, user_id; /* checked by the caller against api.md's grammar */
    const struct text *roles;
    size_t role_count;
    struct device device;
    struct text ip, user_agent;
    struct text attributes; /* a JSON object, or absent */
    bool remember, second_factor;
    bool cookie;         /* the caller's own: the answer is to set the session cookie */
    int64_t verified_ms; /* 0, or when the second verification began that was passed for it */
    uint8_t verified_id[SESSION_ID]; /* of that challenge */

    struct issued_pair pair;
    int64_t limit;                 /* ERR_DEVICE_LIMIT: of devices */
    bool new_device, new_location; /* not seen with this user, see src/session/model/login_risk.h */
    bool first_location;           /* nor was the user anywhere else */
    struct replaced_session *replaced;
    size_t replaced_count;
};
void session_login(struct login *login);

/* The answer to a challenge: goes on with what waits for it. A login then is as session_login()
 * leaves it, with second_factor set; of a living session `login.pair` is the next pair, as after a
 * refresh, and nothing else of the login is set. */
struct verify {
    struct login login; /* its base is the operation's; the rest is filled in */
    struct text challenge_id;
    struct text code; /* for VERIFY_OTP; else absent, and ... */
    bool verified;    /* ... for VERIFY_EXTERNAL. The wrong one of both is ERR_BODY_INVALID */
    struct text tenant;
    bool tenant_bound; /* as in validate */

    bool of_session;       /* no login, but a living session that was used from elsewhere */
    int64_t attempts_left; /* ERR_VERIFICATION_FAILED */
};
void session_verify(struct verify *verify);

/* Looks one access token up and, if asked, notes its use (a touch that is not waited for). */
struct validate {
    struct operation base;
    struct text token; /* as presented */
    bool touch;
    struct text tenant; /* if present, the token must be of this tenant: else ERR_TENANT_FORBIDDEN
                           when tenant_bound, ERR_TOKEN_INVALID with reason unknown when not */
    bool tenant_bound;

    struct token parsed;      /* valid once the MAC held; wiped when the operation is done */
    struct text session_json; /* members ready to send */
    int64_t access_expires_s;
    int64_t idle_expires_s; /* without an idle limit: the end of the session */
    bool from_cache;
    bool stale; /* Redis did not answer: true some seconds ago */
    int64_t stale_for_s;
};
void session_validate(struct validate *validate);

struct refresh {
    struct operation base;
    struct text refresh_token, ip;
    struct text tenant;
    bool tenant_bound; /* as in validate, for services; absent for users */

    struct issued_pair pair;
};
void session_refresh(struct refresh *refresh);

/* A session in the list of its user. */
struct listed_session {
    struct text session_id;
    struct text session_json; /* has "device":{…} and created_at */
    struct text device_json;  /* the object after "device": in shown */
    struct text ip, user_agent;
    struct text location; /* of the address, if the database knows it */
    int64_t created_s, last_seen_s, expires_s;
    bool current;
};

/* A session of a user that ended. */
struct ended_session {
    struct text session_id;
    struct text reason, actor;  /* actor: absent if it ended by itself */
    int64_t created_s, ended_s; /* ended_s: 0 if nobody knows */
    struct text device_json;    /* absent once its record is gone */
};

/* What holds for a user, whoever found it out. */
struct user_status {
    bool frozen;
    struct text frozen_reason;
    int64_t frozen_until_s; /* 0: until it is lifted */
    int64_t not_before_s;
};

struct list_devices {
    struct operation base;
    struct text token; /* either: the user's own access token, validated first ... */
    struct text tenant;
    bool tenant_bound;   /* as in validate */
    struct text user_id; /* ... or, with token absent, tenant and user_id */

    struct listed_session *sessions; /* newest first */
    size_t count;
    int64_t limit;
    struct user_status user;
    struct ended_session *over; /* the last to end first, as far as the user's state knows them */
    size_t over_count;
};
/* The living sessions of the token's owner or of the named user, and what holds for the user. */
void session_list(struct list_devices *list);

/* A page of a tenant's users with living sessions. Users come in no order from page to page, newest
 * login first inside one. Who is there all the time is seen at least once in a walk, and who is
 * used meanwhile maybe twice. Needs Redis. ERR_QUERY_INVALID for a page_token that is none. */
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
    struct text next_page_token; /* absent: this was the last */
    int64_t total;               /* of users */
    int64_t total_error;         /* so many of them may have been idle for too long */
};
void session_list_tenant(struct list_tenant *list);

/* Attributes: what callers keep with a session, one JSON object, shown at each validation. */
#define ATTRIBUTES_MAX 4096 /* bytes of compact JSON */
enum attributes_action { ATTRIBUTES_GET, ATTRIBUTES_PUT, ATTRIBUTES_PATCH };
struct attributes {
    struct operation base;
    struct text token; /* of the session */
    struct text tenant;
    bool tenant_bound; /* as in validate */
    enum attributes_action action;
    struct text given;    /* PUT: the object, compact JSON; PATCH: the merge patch (RFC 7396) */
    struct text if_match; /* the condition of a change (etag.h), or absent */

    struct text json;       /* as they are now: one object, compact */
    char etag[ETAG_LENGTH]; /* of this session with these attributes */
};
/* Reads or changes them; needs Redis. Of parallel changes none is lost. ERR_PRECONDITION_FAILED,
 * ERR_TOO_LARGE, ERR_BODY_INVALID for what is no merge patch. */
void session_attributes(struct attributes *attributes);

/* Ends sessions: kick, logout and logout-all in one. */
enum end_scope { END_ONE, END_OWN, END_ALL };
struct end_sessions {
    struct operation base;
    struct text token; /* as in list_devices; but any token that was issued for a session may end
                          that one: END_OWN (a refresh token, too; 0 ended if it is dead), and
                          END_ONE with it for a target */
    struct text tenant;
    bool tenant_bound;
    struct text user_id;
    enum end_scope scope;
    struct text target; /* END_ONE: session id in hex; unknown ones give ERR_SESSION_NOT_FOUND */
    struct text keep;   /* END_ALL: session id in hex to leave alive, or absent */
    bool keep_own;      /* END_ALL: leave the session of `token` alive */
    struct text why;    /* reason for the tombstones */

    bool own_ended; /* ERR_OK: the session of `token` lives no longer */
};
void session_end(struct end_sessions *end);

/* A freeze that ends by itself does so within ten years: later ones are mistakes, milliseconds
 * mostly. */
#define FREEZE_MOST_S (INT64_C(10) * 366 * 24 * 3600)
/* Freezes a user: all sessions end, and nobody logs in until it is lifted or over. A freeze is kept
 * in the journal while Redis is away; lifting needs Redis. */
struct freeze {
    struct operation base;
    struct text tenant, user_id;
    bool lift;
    struct text why; /* what a login is told; the sessions end with REASON_FROZEN */
    int64_t until_s; /* it ends by itself then, FREEZE_MOST_S from now at most; 0: it does not */
};
void session_freeze(struct freeze *freeze);

/* What somebody says of a session, or all together of a token. */
enum source_state {
    SOURCE_UNKNOWN, /* it knows none */
    SOURCE_ACTIVE,
    SOURCE_ENDED,
    SOURCE_UNAVAILABLE /* it cannot be asked */
};
struct source_verdict {
    enum source_state state;
    struct text reason, actor; /* SOURCE_ENDED: why and by whom, as far as known */
    int64_t at_s;              /* since when; 0: unknown */
};

/* All there is to say of a token: what it is, what memory, journal and Redis say of its session. It
 * changes nothing, and is no use of the session. Any text is explained: err is only set for a bound
 * key's foreign token. */
struct explain {
    struct operation base;
    struct text token; /* as presented */
    struct text tenant;
    struct text user_id, session_id; /* or, with token absent, a session of the tenant by name; the
                                        id 16 hex digits */

    struct text kind;                 /* "access", "refresh", "session", "unknown" */
    struct text tenant_tag, user_tag; /* as in the names of keys */
    int64_t created_s;                /* of the session */
    unsigned key_id;
    bool tenant_bound; /* asked: as in validate */
    bool issued;       /* its MAC holds, or it is a session by name; else nothing of what follows
                          but `verdict` is known */
    bool from_cache;   /* Redis was no help: the verdict is memory's or nobody's */

    struct source_verdict verdict; /* SOURCE_UNKNOWN: nobody who could be asked knows */
    struct source_verdict memory, journal, redis; /* each by itself */
    int64_t memory_age_s;                         /* memory was known to be true so long ago ... */
    enum err redis_err;                           /* why Redis is unavailable */
    bool memory_fresh;                            /* ... or is so now */
    bool journal_pending;                         /* Redis is not known to have it */

    bool user_known; /* Redis was asked */
    struct user_status user;

    /* The session, if its record is known; `shown` is absent otherwise. */
    struct text session_json; /* members of *session* */
    struct text pair; /* "present", "previous", "older": the token's; absent if it cannot be told */
    int64_t issued_s, last_seen_s;
    int64_t access_expires_s, idle_expires_s, session_expires_s;
    bool remember;
};
void session_explain(struct explain *explain);

/* What holds for a tenant as a whole: its policy, shown or changed, and the end of all its
 * sessions, which a cutoff brings about, whatever their number. Changes need Redis; to show needs
 * it only where nothing is known. */
#define POLICY_MAX 16384 /* bytes of a policy's compact JSON */
enum tenant_action { TENANT_SHOW, TENANT_PUT, TENANT_PATCH, TENANT_DELETE, TENANT_END_ALL };
struct tenant_call {
    struct operation base;
    struct text tenant;
    enum tenant_action action;
    struct text given;    /* PUT: the policy; PATCH: the merge patch (RFC 7396) */
    struct text if_match; /* the condition of a change (etag.h), or absent */
    struct text why;      /* END_ALL: the reason that dead tokens tell */
    bool bound;           /* by a key of this tenant, which leaves the platform's members alone */

    struct text changes;    /* of the tenant's own policy, as JSON strings (changes.h) */
    struct text policy;     /* in force now: the effective policy, one JSON object */
    char etag[ETAG_LENGTH]; /* of this tenant with this policy */
};
/* ERR_PRECONDITION_FAILED, ERR_BODY_INVALID with a sentence about the policy, ERR_TOO_LARGE,
 * ERR_FORBIDDEN with one about a member of the platform (policy_keep_platform()). */
void session_tenant(struct tenant_call *call);
