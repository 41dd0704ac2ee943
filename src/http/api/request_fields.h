/* Reading and checking the fields of a request: body, headers, query, path. */
#pragma once

#include "http/exchange/request.h"

/* Largest values that callers send, in bytes (more in request.h). */
#define DEVICE_TEXT_MAX 128
#define ROLES_MAX       32

/* A row of json_read()'s table. */
#define FIELD(type, member, label, json_kind, is_required, least, most)         \
    {                                                                           \
        .name = (label), .kind = (json_kind), .required = (is_required),        \
        .offset = offsetof(type, member), .minimum = (least), .maximum = (most) \
    }
/* Texts with a form of their own; the checks below refuse them in the same words. */
#define FIELD_TEXT(type, member, label, least, most, words)                                       \
    {                                                                                             \
        .name = (label), .kind = JSON_TEXT, .offset = offsetof(type, member), .minimum = (least), \
        .maximum = (most), .meaning = (words)                                                     \
    }
/* Read by api_given_address(): an unreadable address is no reason to refuse. */
#define FIELD_ADDRESS(type)                                                                \
    {                                                                                      \
        .name = "ip", .kind = JSON_DECORATION, .offset = offsetof(type, ip), .minimum = 1, \
        .maximum = INT32_MAX, .meaning = "an IPv4 or IPv6 address"                         \
    }
/* How the user has authenticated: the rows of a struct authentication_body named `how`. */
struct authentication_body {
    int64_t auth_time;
    struct text acr;
    struct json_texts amr;
};
#define FIELDS_AUTHENTICATION(type)                                \
    {.name = "auth_time",                                          \
     .kind = JSON_INT,                                             \
     .offset = offsetof(type, how.auth_time),                      \
     .minimum = 1,                                                 \
     .maximum = INT64_MAX,                                         \
     .meaning = AUTH_TIME_MEANING},                                \
        FIELD_TEXT(type, how.acr, "acr", 1, ACR_MAX, ACR_MEANING), \
        FIELD(type, how.amr, "amr", JSON_TEXT_ARRAY, false, 0, AMR_MAX)
#define AUTH_TIME_MEANING   "a Unix time in seconds, not in the future"
#define FIELD_REASON(type)  FIELD_TEXT(type, reason, "reason", 1, 32, REASON_MEANING)
#define REASON_MEANING      "1 to 32 characters of a-z and _"
#define SESSION_MEANING     "a session id, 16 hexadecimal digits"
#define TENANT_MEANING      "a text that matches [a-z0-9][a-z0-9._-]{0,62}"
#define ACR_MEANING         "1 to 128 printable ASCII characters without blank, quote and backslash"
#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* --- checks: GO_ON, or ANSWERED with the refusal that is named here --- */

/* Reads the body by rows (json_read()): 400. Demands application/json if there is a body. */
MUST_CHECK enum handled api_read_body(struct request *request, const struct json_field *fields,
                                      size_t count, void *target);
/* Demands this Content-Type, in UTF-8 and uncompressed: 415, to a PATCH with Accept-Patch. */
MUST_CHECK enum handled api_check_type(struct request *request, const char *type);
/* Reads If-Match, for the domain, and If-None-Match, for response_answer_tagged(); 400 if either is
 * malformed. */
MUST_CHECK enum handled api_check_conditions(struct request *request, struct etag_list *if_match);
/* The verdict of a throttle_…() call: 429. */
MUST_CHECK enum handled api_check_rate(struct request *request, bool within);
/* Counts a token that was never issued, against the address that the audit record names: 429. */
MUST_CHECK enum handled api_count_forged_token(struct request *request);

/* The tenant that a service call is about: the key's own, or for "*" keys the named one. Foreign:
 * 403; malformed or, for a "*" key, absent: 400; over its rate: 429. Absent for users. */
MUST_CHECK enum handled api_tenant(struct request *request, struct text named, struct text *ret);
/* The tenant that a presented token must be of: a bound key's own; the one that a "*" key's query
 * names; absent for a user. */
MUST_CHECK enum handled api_token_tenant(struct request *request, struct text *tenant, bool *bound);
/* The tenant that the body or the query names, the same if both do; absent if neither does. */
MUST_CHECK enum handled api_body_tenant(struct request *request, struct text in_body,
                                        struct text *ret);
/* The tenant that the path names, if the key may speak for it. */
MUST_CHECK enum handled api_path_tenant(struct request *request, struct text *ret);
/* The user that the path names, within the key's tenant. */
MUST_CHECK enum handled api_named_user(struct request *request, struct text *tenant,
                                       struct text *user_id);

/* 400 if a cookie is wanted while no call accepts one. */
MUST_CHECK enum handled api_check_cookie(struct request *request, bool wanted);
/* Reason word of api.md, [a-z_]{1,32} and none of the service's own; absent becomes `otherwise`.
 * Others are answered with `refusal`, which says whether query or body is wrong. */
MUST_CHECK enum handled api_check_reason(struct request *request, struct text given,
                                         const char *otherwise, enum err refusal, struct text *ret);

/* Checks what a body states about the user's authentication: 400 for a time in the future, a class
 * that is no conf_is_acr(), a method that RFC 8176 does not name. A time ahead by no more than
 * clocks may be apart counts as now. */
MUST_CHECK enum handled api_check_authentication(struct request *request,
                                                 const struct authentication_body *given,
                                                 struct authentication *ret);
/* A demand for strength (struct strength_demand) in the query: max_age, acr. */
MUST_CHECK enum handled api_query_strength(struct request *request, int64_t *max_age_s,
                                           struct text *acr);
/* A class of authentication that a caller demands: a conf_is_acr(), and one of auth.acr_order if
 * that is set. Absent is good. Others are answered with `refusal`. */
MUST_CHECK enum handled api_check_acr(struct request *request, struct text acr, enum err refusal);

/* The address that a body names, in its canonical spelling. Absent if it cannot be read
 * (proxies_read()), which the audit line notes. */
struct text api_given_address(struct request *request, struct text given);
