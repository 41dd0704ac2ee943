/* What all operations share: opening a token, refusing, noting facts for the audit line. */
#pragma once

#include "policy.h"
#include "session.h"
#include "session/model/state.h"

/* The policy of the operation's tenant, and the one for a session of it with these shown members
 * and this device type. */
void operation_policy(const struct operation *operation, struct policy *ret);
void operation_session_policy(const struct operation *operation, struct text session_json,
                              struct text device_type, struct policy *ret);
/* Gives each session of the state the policy that holds for it. */
void operation_apply_policies(const struct operation *operation, struct user_state *state);

/* By which the operation gives up what is too old: clock_deletion_ms(), no later than its now. */
int64_t operation_age_ms(const struct operation *operation);
/* True if no session of this name, which lives so long at most, can be alive any more. Takes no
 * lock for one that is not too old by the operation's now. */
bool operation_outlived(const struct operation *operation, const uint8_t session_id[SESSION_ID],
                        int64_t longest_s);

/* Ends the operation, once it is known whose token was refused as dead. (naming.c) */
void naming_done(struct operation *operation);
/* Sets the error and the reason code; the caller then calls naming_done(). */
void operation_refuse(struct operation *operation, enum err err, struct text reason);
/* The same for a session that lies in a tombstone: reason, actor and time are its tombstone's. */
void operation_refuse_ended(struct operation *operation, enum err err,
                            const struct tombstone *tombstone);

/* No session of the operation's tenant lives longer from its login; where the tenant's policy is
 * not known here, as long as any policy allows. */
int64_t operation_longest_life_s(const struct operation *operation);
/* rules_cutoff_ms() of one user's sessions, which may lie behind the tenant's cutoff. */
int64_t operation_cutoff_ms(const struct operation *operation);
/* True if a replica has what was written, or the operator says that there is none to wait for
 * (redis.wait_timeout = 0). */
bool operation_is_settled(const struct operation *operation);

/* Opens a presented token without a look at Redis. On failure refuses with `bad` (reason malformed
 * or unknown), or with ERR_TENANT_FORBIDDEN for a bound key's foreign token, and returns false. An
 * absent tenant allows all. */
bool operation_open_token(struct operation *operation, enum token_kind kind, struct text text,
                          struct text tenant, bool tenant_bound, enum err bad, struct token *ret);

struct state_codec operation_codec(const struct operation *operation, const struct user_tag *owner);

/* Tenant, user and device of the session, and its id in hex. */
void operation_note_session(struct operation *operation, const struct session *session);
/* Tenant and user, as the state that was read for the operation tells them, if they are not known
 * yet. */
void operation_note_names(struct operation *operation, const struct user_state *state);
struct text operation_session_id(struct operation *operation, const uint8_t id[SESSION_ID]);

/* Judges an access token against the whole state. NULL with the operation refused if it is no good,
 * else the session. */
struct session *operation_authenticate(struct operation *operation, const struct user_state *state,
                                       const struct token *token);
/* Refuses for a session that the state does not hold: with `err`, or with ERR_SEAL_KEY_UNKNOWN
 * where that is for want of a key. */
void operation_refuse_missing(struct operation *operation, const struct user_state *state,
                              const struct token *token, enum err err);

/* Sends a plain command for the operation, due when that is: {name, key, ...}. */
void operation_ask(const struct operation *operation, struct store_call *call,
                   const struct text *arguments, size_t count, unsigned flags, store_done_fn *done);
