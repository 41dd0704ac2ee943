/* Shared by all operations: opening a token, refusing, noting facts for the audit line. */
#pragma once

#include "policy.h"
#include "session.h"
#include "session/model/state.h"

/* The policy of the operation's tenant; and its policy for a session with this session JSON and
 * device type. */
void operation_policy(const struct operation *operation, struct policy *ret);
void operation_session_policy(const struct operation *operation, struct text session_json,
                              struct text device_type, struct policy *ret);
/* Sets each session's policy in the state. */
void operation_apply_policies(const struct operation *operation, struct user_state *state);

/* The time by which the operation removes old entries: clock_deletion_ms(), but no later than its
 * now. */
int64_t operation_age_ms(const struct operation *operation);
/* When the operation must have an answer, whatever the store does. */
int64_t operation_answer_by_ms(const struct operation *operation);
/* True if no session with this id can still be active, given its longest lifetime. Takes no lock
 * for one that is not too old by the operation's now. */
bool operation_outlived(const struct operation *operation, const uint8_t session_id[SESSION_ID],
                        int64_t longest_s);

/* Ends the operation, after finding the names of a refused dead token. (naming.c) */
void naming_done(struct operation *operation);
/* Sets error and reason code. The caller then calls naming_done(). */
void operation_refuse(struct operation *operation, enum err err, struct text reason);
/* The same for a session with a tombstone, which gives reason, actor and time. */
void operation_refuse_ended(struct operation *operation, enum err err,
                            const struct tombstone *tombstone);

/* Longest lifetime of the tenant's sessions from login. If the tenant's policy is unknown: the
 * longest that any policy allows. */
int64_t operation_longest_life_s(const struct operation *operation);
/* rules_cutoff_ms() for one user's sessions; may lie after the tenant's cutoff. */
int64_t operation_cutoff_ms(const struct operation *operation);
/* True if a replica has the write, or the operator expects none (redis.wait_timeout = 0). */
bool operation_is_confirmed(const struct operation *operation);

/* Opens a token without asking Redis. On failure returns false and refuses with `bad` (reason
 * malformed or unknown), or with ERR_TENANT_FORBIDDEN for a bound key's foreign token. An absent
 * tenant allows all. */
bool operation_open_token(struct operation *operation, enum token_kind kind, struct text text,
                          struct text tenant, bool tenant_bound, enum err bad, struct token *ret);

/* True if records may have the members of an authentication. Nodes of earlier versions keep them in
 * sealed records, but call a plain record that has them invalid. */
bool operation_keeps_authentication(const struct operation *operation);
struct state_codec operation_codec(const struct operation *operation, const struct user_tag *owner);

/* Notes tenant, user and device of the session, and its id in hex. */
void operation_note_session(struct operation *operation, const struct session *session);
/* Notes tenant and user from the operation's state, if still unknown. */
void operation_note_names(struct operation *operation, const struct user_state *state);
struct text operation_session_id(struct operation *operation, const uint8_t id[SESSION_ID]);

/* Judges an access token against the whole state. Returns its session, or NULL with the operation
 * refused. */
struct session *operation_authenticate(struct operation *operation, const struct user_state *state,
                                       const struct token *token);
/* Refuses because the state lacks the session: with `err`, or with ERR_SEAL_KEY_UNKNOWN if a
 * missing key is the cause. */
void operation_refuse_missing(struct operation *operation, const struct user_state *state,
                              const struct token *token, enum err err);

/* Sends a plain command {name, key, ...} with the operation's deadline. */
void operation_ask(const struct operation *operation, struct store_call *call,
                   const struct text *arguments, size_t count, unsigned flags, store_done_fn *done);
