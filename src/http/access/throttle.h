/* Who calls too often gets 429: a tenant's services, its users together (its policy's rate, each)
 * and each user (a tenth of it), a user's logins, and addresses that present wrong service keys or
 * forged tokens. Calls that end sessions are neither counted nor refused for a tenant's rate; those
 * with the tokens of one session have a wide rate of their own.
 * Limits are this node's alone.
 *
 * What is counted is told in every answer by the RateLimit fields
 * (draft-ietf-httpapi-ratelimit-headers-10), and in a 429 by Retry-After, which tells when the next
 * call is taken. Addresses are counted by IPv4 address or IPv6 /64; Unix sockets have none. A right
 * key and a genuine token are taken from whatever address: a user must not suffer for his
 * neighbours. */
#pragma once

#include "http/exchange/request.h"

struct throttle;
struct throttle *throttle_create(void);
void throttle_destroy(struct throttle **throttle);

/* The rate of the caller's tenant, as far as the credentials in the headers tell it: of a bound
 * key, or of a genuine token the rates of its user and of users. ERR_OK, or ERR_RATE_LIMITED with
 * *detail. */
enum err throttle_admit_caller(struct request *request, struct text *detail);
/* The same for callers of all tenants, once the request has said which. A tenant is counted once a
 * request, whoever asks. GO_ON, or ANSWERED with 429, as the next. */
MUST_CHECK enum handled throttle_admit_tenant(struct request *request, struct text tenant);
/* The same where only a token tells: of callers of all tenants, and of those without a key. A bound
 * key has been judged by its own tenant. */
MUST_CHECK enum handled throttle_admit_token(struct request *request, enum token_kind kind,
                                             struct text token);
/* Logins of a user. */
MUST_CHECK enum handled throttle_admit_login(struct request *request, struct text tenant,
                                             struct text user_id);

/* Counts a wrong key; ERR_KEY_INVALID, or ERR_RATE_LIMITED with *detail. */
enum err throttle_note_wrong_key(struct request *request, struct text *detail);
/* Counts a token that was never issued: against the client, or the user's address `ip` that a
 * service named (absent: nobody's). */
MUST_CHECK enum handled throttle_note_forged_token(struct request *request, struct text ip);

/* Adds the RateLimit fields of what was counted. */
void throttle_add_headers(struct MHD_Response *response, const struct request *request);
/* Seconds for Retry-After of a 429, at least 1. */
unsigned throttle_retry_after_s(const struct request *request);
