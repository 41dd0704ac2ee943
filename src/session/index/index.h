/* The index of a tenant's users with active sessions. It lists a tenant's sessions page by page
 * without scanning all keys of Redis.
 *
 * Sorted sets `sd:i:{T.b}`, T the tenant's tag. A small tenant has one, the root (b = 0), which
 * Redis stores compactly. A tenant with more than INDEX_ROOT_MOST users has sixteen, by user, each
 * in a slot of its own, so no tenant is one hot or huge key. The node that finds the root crowded
 * marks it as given up and moves its members; other nodes find the mark at their next write.
 *
 * The member is the user's tag. The score is the *moment* until which the index vouches for the
 * user (index_moment()), in seconds, followed by 20 bits of the tag. So scores are practically
 * unique, and a list can continue after its last one. A moment is the last use that counts. Idle
 * timeout and the interval of unwritten uses (rules.h) are added when the index is read, so a
 * changed policy changes no index. The index is written at login, at refresh, and at the first use
 * in each INDEX_STEP: it may be late by that much.
 *
 * No operation waits for index writes, and none is repeated. A missing entry is written by the
 * user's next login, refresh, use or device list. A superfluous entry is removed when a list meets
 * it. */
#pragma once

#include "session/engine/operation.h"
#include "session/model/keys.h"

enum {
    INDEX_BUCKETS = KEYS_BUCKETS, /* the root and sixteen */
    INDEX_ROOT_MOST = 100,
    INDEX_STEP = 300, /* seconds */
    INDEX_TIE_BITS = 20,
    INDEX_NUMBER = 24 /* a score as text, its NUL included */
};
/* Redis keeps scores as doubles, which are exact up to here. */
#define INDEX_SCORE_MAX ((INT64_C(1) << 53) - 1)

/* The sets, by enum keys_kind. Only the set of users is always written; the others need a quota
 * (quota.h), and use buckets 1 and up.
 *
 * KEYS_INDEX     users
 * KEYS_SESSIONS  the user's tag and the session's id; scores as for users
 * KEYS_PENDING   logins that wait for additional verification: the user's tag and the challenge's
 *                id; score: its end in seconds
 * KEYS_FROZEN    frozen users; score: the second in which the freeze ends or ended. Redis keeps
 * them for FREEZING_REMEMBERED_S more */

/* A user's bucket in a large tenant, 1 or more. */
unsigned index_bucket(const uint8_t user[USER_TAG]);
/* Scores are whole numbers below 2^53, which a double holds exactly. */
int64_t index_score(int64_t moment_s, const uint8_t user[USER_TAG]);
/* The least score of this moment. */
int64_t index_floor(int64_t moment_s);
int64_t index_moment_of_score(int64_t score);
/* Reads a score from a reply; false if it is none. */
bool index_read_score(const struct store_reply *reply, int64_t *ret);

/* The session's moment: its last use that counts (rules_used_s()). With `remember` there is no
 * idleness, so it is the session's end. */
int64_t index_moment(const struct session *session, const struct policy *policy, int64_t now_s);
/* The latest moment of the state's sessions, except ended ones and those from before the tenant's
 * cutoff; 0 if there is none. */
int64_t index_moment_of_state(const struct user_state *state, const struct policy *policy,
                              int64_t cutoff_ms, int64_t now_ms);
/* The lowest moment at now_s of users who may still be within idle_timeout. */
int64_t index_oldest(int64_t now_s, int64_t idle_timeout);
/* True if a use at now_s is to be written, given the last known use at seen_s. */
bool index_is_due(int64_t seen_s, int64_t now_s);

/* Range of the index that may have active users: from `low` on. Users below `sure` may have been
 * idle for too long. Computed from policy and cutoff of the operation's tenant. */
struct index_window {
    int64_t low, sure;
};
struct index_window index_window(const struct operation *operation);

/* Writes the session's moment for the user and, with quota.sessions, for the session. */
void index_note(struct operation *operation, const struct user_tag *owner,
                const struct session *session);
/* Removes the sessions that the operation ended from the count of quota.sessions, if the tenant has
 * one. */
void index_note_ended(struct operation *operation);
/* With quota.sessions: a login waits for additional verification until end_s, or no longer
 * waits. */
void index_note_pending(struct operation *operation, const struct user_tag *owner,
                        const uint8_t challenge[SESSION_ID], int64_t end_s);
void index_forget_pending(struct operation *operation, const struct user_tag *owner,
                          const uint8_t challenge[SESSION_ID]);
/* With quota.users: the user is frozen until then (0: for good), or was until now. */
void index_note_frozen(struct operation *operation, const struct user_tag *owner, int64_t until_s);
/* Like index_note(), for the latest session of a state that was read, in case the index lost it. */
void index_note_state(struct operation *operation, const struct user_tag *owner,
                      const struct user_state *state);
/* Re-reads the user's state and corrects the user's entry: removed first, then added again if there
 * is a session, so a simultaneous login is not lost. The bucket is where the user was found;
 * INDEX_BUCKETS if unknown. */
void index_correct(struct operation *operation, const struct user_tag *owner, unsigned bucket);

/* Prepares the script that adds. Call once, before the first operation. */
void index_prepare(void);

/* End of a page of a tenant's list, for the next page's token: base64url of the position and a
 * keyed hash over it and the tenant (CRYPTO_PAGE). So nobody can forge a token or use it for
 * another tenant. */
struct index_position {
    uint8_t bucket;
    int64_t score; /* after the user with this score */
    uint8_t user[USER_TAG];
};
#define PAGE_TOKEN_LENGTH 39
void index_page_token_print(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                            const struct index_position *position, char ret[PAGE_TOKEN_LENGTH]);
bool index_page_token_read(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                           struct text token, struct index_position *ret);
