/* What all operations share: opening a token, refusing, noting facts for the audit line. */
#pragma once

#include "policy.h"
#include "session.h"
#include "state.h"

/* The policy of the operation's tenant, and the one for a session of it with these shown members
 * and this device type. */
void operation_policy(const struct operation *operation, struct policy *ret);
void operation_session_policy(const struct operation *operation, struct text shown,
                              struct text device_type, struct policy *ret);
/* Gives each session of the state the policy that holds for it. */
void operation_apply_policies(const struct operation *operation, struct user_state *state);

/* Ends the operation. */
void operation_done(struct operation *operation);
/* Sets the error and the reason code; the caller then calls operation_done(). */
void operation_refuse(struct operation *operation, enum err err, struct text reason);
/* The same for a session that lies in a grave: reason, actor and time are its tombstone's. */
void operation_refuse_buried(struct operation *operation, enum err err,
                             const struct tombstone *tombstone);

/* Opens a presented token without a look at Redis. On failure refuses with `bad` (reason malformed
 * or unknown), or with ERR_TENANT_FORBIDDEN for a bound key's foreign token, and returns false. An
 * absent tenant allows all. */
bool operation_open_token(struct operation *operation, enum token_kind kind, struct text text,
                          struct text tenant, bool tenant_bound, enum err bad, struct token *ret);

struct state_codec operation_codec(const struct operation *operation, const struct user_tag *owner);

/* Tenant, user and device of the session, and its id in hex. */
void operation_note_session(struct operation *operation, const struct session *session);
struct text operation_session_id(struct operation *operation, const uint8_t id[SESSION_ID]);

/* Judges an access token against the whole state. NULL with the operation refused if it is no good,
 * else the session. */
struct session *operation_authenticate(struct operation *operation, const struct user_state *state,
                                       const struct token *token);
/* While Redis is away: true if memory vouches for the access token, within outage.grace. Its
 * tenant, user and device are noted. (validate.c) */
bool validate_vouches(struct operation *operation, const struct token *token);

/* Refuses for a session that the state does not hold: with `err`, or with ERR_SEAL_KEY_UNKNOWN
 * where that is for want of a key. */
void operation_refuse_missing(struct operation *operation, const struct user_state *state,
                              const struct token *token, enum err err);
