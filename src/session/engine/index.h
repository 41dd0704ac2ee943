/* The index of a tenant's users: who may have a living session, so that a tenant's sessions can be
 * listed page by page without a look at every key of Redis.
 *
 * Sorted sets `sd:i:{T.b}`, T the tenant's tag. A small tenant has one, the root (b = 0), which
 * Redis stores compactly. One that outgrows INDEX_ROOT_MOST users has sixteen, by user, each in a
 * slot of its own, so that no tenant is one hot or huge key. Whoever finds the root crowded marks
 * it as given up, which the other nodes find when they write there next, and moves its members
 * over.
 *
 * The member is the user's tag, the score the *moment* until which the index vouches for the user
 * (index_moment()), in seconds, with 20 bits of the tag behind it, so that scores are as good as
 * unique and a list can go on behind the last one it gave. A moment is the last use that counts.
 * The policy's idle timeout and the interval within which uses are not written (rules.h) are added
 * when the index is read: so a changed policy changes no index.
 * It is written at login, at refresh, and at the first use in each INDEX_STEP: by so much it may be
 * late.
 *
 * Nothing waits for a write of the index, and none is ever tried again: what is lost is written by
 * the next login, refresh, use or list of devices of the user, and what is too much is found by who
 * lists.
 */
#pragma once

#include "operation.h"

enum {
    INDEX_BUCKETS = 17, /* the root and sixteen */
    INDEX_ROOT_MOST = 100,
    INDEX_STEP = 300, /* seconds */
    INDEX_TIE_BITS = 20
};
/* Redis keeps scores as doubles, which are exact up to here. */
#define INDEX_SCORE_MAX ((INT64_C(1) << 53) - 1)

/* What a set holds. All but the users is written only for tenants with a quota (quota.h), and lies
 * in buckets 1 and more. */
enum index_kind {
    INDEX_USERS = 'i',
    INDEX_SESSIONS = 'n', /* the user's tag and the session's id; scores as for users */
    INDEX_PENDING = 'v',  /* logins that wait for a second verification: the user's tag and the
                             challenge's id; score: its end in seconds */
    INDEX_FROZEN = 'f'    /* users who were frozen; score: the second in which that ends, or ended.
                             Redis remembers them for FREEZING_REMEMBERED_S more */
};
/* "sd:i:{" tag in 8 base64url digits "." bucket "}" */
#define INDEX_KEY_LENGTH 17
void index_key(enum index_kind kind, const uint8_t tenant[TENANT_TAG], unsigned bucket,
               char ret[INDEX_KEY_LENGTH]);
/* The bucket of a user of a large tenant, 1 or more. */
unsigned index_bucket(const uint8_t user[USER_TAG]);
/* Scores are whole numbers below 2^53, which a double holds exactly. */
int64_t index_score(int64_t moment_s, const uint8_t user[USER_TAG]);
/* The least score of this moment. */
int64_t index_floor(int64_t moment_s);
int64_t index_moment_of_score(int64_t score);
/* A score as Redis answers with it; false for what is none. */
bool index_read_score(const struct store_reply *reply, int64_t *ret);

/* The moment for a session: its last use that counts (rules_used_s()); with `remember`, which knows
 * no idleness, its end. */
int64_t index_moment(const struct session *session, const struct policy *policy, int64_t now_s);
/* The latest of a state's sessions that were not ended, nor begun before the tenant's cutoff; 0 if
 * there is none. */
int64_t index_moment_of_state(const struct user_state *state, const struct policy *policy,
                              int64_t cutoff_ms, int64_t now_ms);
/* The least moment at now_s of a user who may not have been idle for longer than idle_timeout. */
int64_t index_oldest(int64_t now_s, int64_t idle_timeout);
/* True if a use at now_s is to be written, the last one known being at seen_s. */
bool index_is_due(int64_t seen_s, int64_t now_s);

/* Where in the index users are who may be alive: from `low` on; those below `sure` may have been
 * idle for too long. By the policy and the cutoff of the operation's tenant. */
struct index_window {
    int64_t low, sure;
};
struct index_window index_window(const struct operation *operation);

/* Notes the session's moment: the user's, and, with quota.sessions, its own. */
void index_note(struct operation *operation, const struct user_tag *owner,
                const struct session *session);
/* Takes the sessions that the operation has ended out of what quota.sessions counts, if the tenant
 * has one. */
void index_note_ended(struct operation *operation);
/* With quota.sessions: a login waits for a second verification until end_s; it does not any more.
 */
void index_note_pending(struct operation *operation, const struct user_tag *owner,
                        const uint8_t challenge[SESSION_ID], int64_t end_s);
void index_forget_pending(struct operation *operation, const struct user_tag *owner,
                          const uint8_t challenge[SESSION_ID]);
/* With quota.users: the user is frozen until then (0: for good), or was until now. */
void index_note_frozen(struct operation *operation, const struct user_tag *owner, int64_t until_s);
/* The same as index_note() for the latest of a state that was read, in case the index had lost it.
 */
void index_note_state(struct operation *operation, const struct user_tag *owner,
                      const struct user_state *state);
/* Brings the user's place in line with the state, as it is read anew: taken out first, then put in
 * again if there is a session. So a login at the same time is not lost. The bucket is where the
 * user was found; INDEX_BUCKETS if that is not known. */
void index_settle(struct operation *operation, const struct user_tag *owner, unsigned bucket);

/* The script that adds; once, before the first operation. */
void index_prepare(void);

/* Where a page of a tenant's list ends, as the next one's token tells it: base64url of the position
 * and a keyed hash over it and the tenant (CRYPTO_PAGE), so that nobody makes one up, or takes it
 * to another tenant. */
struct index_position {
    uint8_t bucket;
    int64_t score; /* behind the user with this score */
    uint8_t user[USER_TAG];
};
#define PAGE_TOKEN_LENGTH 39
void index_page_token_print(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                            const struct index_position *position, char ret[PAGE_TOKEN_LENGTH]);
bool index_page_token_read(const struct keyring *keyring, const uint8_t tenant[TENANT_TAG],
                           struct text token, struct index_position *ret);
