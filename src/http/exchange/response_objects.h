/* The objects of docs/api.md that several handlers answer with, and the checks that they share. */
#pragma once

#include "request.h"

/* Largest values of what callers send, in bytes. */
#define DEVICE_TEXT_MAX 128
#define FINGERPRINT_MAX 256
#define USER_AGENT_MAX  512
#define ROLES_MAX       32

/* A row of json_read()'s table. */
#define FIELD(type, member, label, json_kind, is_required, least, most)         \
    {                                                                           \
        .name = (label), .kind = (json_kind), .required = (is_required),        \
        .offset = offsetof(type, member), .minimum = (least), .maximum = (most) \
    }
/* Texts with a form of their own, which their checks below say in the same words. */
#define FIELD_TEXT(type, member, label, least, most, words)                                       \
    {                                                                                             \
        .name = (label), .kind = JSON_TEXT, .offset = offsetof(type, member), .minimum = (least), \
        .maximum = (most), .meaning = (words)                                                     \
    }
/* Read by api_given_address(): what is no address is no reason to refuse. */
#define FIELD_ADDRESS(type)                                                                \
    {                                                                                      \
        .name = "ip", .kind = JSON_DECORATION, .offset = offsetof(type, ip), .minimum = 1, \
        .maximum = INT32_MAX, .meaning = "an IPv4 or IPv6 address"                         \
    }
#define FIELD_REASON(type)  FIELD_TEXT(type, reason, "reason", 1, 32, REASON_MEANING)
#define REASON_MEANING      "1 to 32 characters of a-z and _"
#define SESSION_MEANING     "a session id, 16 hexadecimal digits"
#define TENANT_MEANING      "a text that matches [a-z0-9][a-z0-9._-]{0,62}"
#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* --- finish_fn of operations without an error --- */

/* *session*: an accepted validation. */
MUST_CHECK enum handled api_answer_session(struct request *request, struct operation *operation);
/* An entry of *devices*; `current` is told to the holder of a token. */
void api_write_listed(struct json_writer *writer, const struct listed_session *session,
                      bool tells_current);
/* `"sessions":[…]` of those that ended, as a member. */
void api_write_ended(struct json_writer *writer, const struct list_devices *list);
/* *devices*. */
MUST_CHECK enum handled api_answer_devices(struct request *request, struct operation *operation);
/* *ended*: 200, or 202 while the change is only in the journal. */
MUST_CHECK enum handled api_answer_ended(struct request *request, struct operation *operation);

/* A new pair, after login, verification or refresh. */
struct pair {
    const struct issued_pair *issued;
    bool verified; /* of a living session that passed a second verification */
    bool new_device, new_location;
    const struct replaced_session *replaced;
    size_t replaced_count;
    bool cookie; /* the answer sets the session cookie */
};
MUST_CHECK enum handled api_answer_pair(struct request *request, unsigned status,
                                        const struct operation *operation, const struct pair *pair);

/* How to go on after ERR_VERIFICATION_REQUIRED or ERR_STEP_UP_REQUIRED, as members; nothing if the
 * operation has no challenge. The code, `otp` (a problem has a `code` of its own), is for services
 * only. */
void api_write_challenge(struct json_writer *writer, const struct request *request,
                         const struct operation *operation);

/* `"replaced":[…]` or another list of sessions with their devices, as members. */
void api_write_sessions(struct json_writer *writer, const char *name,
                        const struct replaced_session *sessions, size_t count);

/* --- checks: GO_ON, or ANSWERED with the refusal (request.h) --- */

/* Which tenant a presented token must be of: a bound key's own; what a "*" key's query names;
 * nobody's for a user. */
MUST_CHECK enum handled api_token_tenant(struct request *request, struct text *tenant, bool *bound);
/* The tenant that the body or the query names, in both the same; absent if neither does. */
MUST_CHECK enum handled api_body_tenant(struct request *request, struct text in_body,
                                        struct text *ret);
/* The user that the path names, within the key's tenant. */
MUST_CHECK enum handled api_named_user(struct request *request, struct text *tenant,
                                       struct text *user_id);
/* The tenant that the path names, if the key may speak for it. */
MUST_CHECK enum handled api_path_tenant(struct request *request, struct text *ret);
/* Not if a cookie is wanted that no call would take: 400. */
MUST_CHECK enum handled api_check_cookie(struct request *request, bool wanted);
/* Reason word of api.md, [a-z_]{1,32} and none of the service's own; absent becomes `otherwise`;
 * others are answered with `refusal`, which says whether query or body is wrong. */
MUST_CHECK enum handled api_check_reason(struct request *request, struct text given,
                                         const char *otherwise, enum err refusal, struct text *ret);

/* The address that a body told, in its canonical spelling: absent if it cannot be read, which the
 * audit line notes (proxies_read()). */
struct text api_given_address(struct request *request, struct text told);
/* Notes for the audit line that an address could not be read. */
void api_note_unreadable_address(struct request *request, struct text told);
