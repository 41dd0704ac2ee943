/* The objects of docs/api.md that several handlers answer with. */
#pragma once

#include "http/exchange/request.h"

/* --- whole answers: finish_fn of operations without an error --- */

/* *session*: an accepted validation. */
MUST_CHECK enum handled api_answer_session(struct request *request, struct operation *operation);
/* *devices*. */
MUST_CHECK enum handled api_answer_devices(struct request *request, struct operation *operation);
/* *ended*: 200, or 202 while the change is only in the journal. */
MUST_CHECK enum handled api_answer_ended(struct request *request, struct operation *operation);

/* A new pair, after login, verification or refresh. */
struct pair {
    const struct issued_pair *issued;
    bool verified; /* of an active session that passed its step-up authentication */
    bool new_device, new_location;
    const struct replaced_session *replaced;
    size_t replaced_count;
    bool cookie; /* the answer sets the session cookie */
};
MUST_CHECK enum handled api_answer_pair(struct request *request, unsigned status,
                                        const struct operation *operation, const struct pair *pair);

/* A failed operation: response_fail() with its outcome, and with the members `reason`, `ended_at`,
 * `actor` and those of its challenge if they are known. 429 if its token was forged and the address
 * is over its limit of those. */
MUST_CHECK enum handled api_fail_operation(struct request *request, struct operation *operation);

/* --- parts of answers --- */

/* Notes for the audit line that a validation was answered from memory in an outage, and adds the
 * header that tells the age where an answer has no body. Nothing if it was not. */
void api_note_staleness(struct request *request, const struct validate *validate);

/* *session*: an accepted validation, as an object. */
void api_write_session(struct json_writer *writer, const struct validate *validate);
/* True for the outcomes of a validation that say that the token is not active, ... */
bool api_is_inactive(enum err err);
/* ... and the object that says so to a service, with the reason. */
void api_write_inactive(struct json_writer *writer, const struct request *request,
                        const struct operation *operation);
/* An entry of *devices*; `current` is for the holder of a token. */
void api_write_listed(struct json_writer *writer, const struct listed_session *session,
                      bool tells_current);
/* `"sessions":[…]` of the ended ones, as a member. */
void api_write_ended(struct json_writer *writer, const struct list_devices *list);
/* `"replaced":[…]` or another list of sessions with their devices, as members. */
void api_write_sessions(struct json_writer *writer, const char *name,
                        const struct replaced_session *sessions, size_t count);
/* How to go on after ERR_VERIFICATION_REQUIRED or ERR_STEP_UP_REQUIRED, as members; nothing if the
 * operation has no challenge. The code, `otp` (a problem has a `code` of its own), is for services
 * only. */
void api_write_challenge(struct json_writer *writer, const struct request *request,
                         const struct operation *operation);
