/* Rate limits, answered with 429 when they are exceeded: of a tenant's services, of its users
 * together (its policy's rate, each) and of each user (a tenth of it), of a user's logins, and of
 * addresses that present wrong service keys or forged tokens. Calls that end sessions are neither
 * counted nor refused for a tenant's rate; those with the tokens of one session have a wide limit
 * of their own. Calls of gateways have a rate of their own: each request to a page may be one, so
 * the user's part would be too small. Limits are this node's alone.
 *
 * Every answer reports the limits that its request counted against in the RateLimit fields
 * (draft-ietf-httpapi-ratelimit-headers-10); Retry-After of a 429 says when the next call is
 * accepted. Addresses are counted by IPv4 address or IPv6 /64; Unix sockets have none. A right key
 * and a genuine token are accepted from every address: a user must not suffer for his neighbours.
 *
 * The functions count and return a verdict; after `false` throttle_refusal() is the detail of the
 * ERR_RATE_LIMITED to answer with. */
#pragma once

#include "http/exchange/request.h"

struct throttle;
struct throttle *throttle_create(void);
void throttle_destroy(struct throttle **throttle);

/* The rate of the caller's tenant, as far as the credentials in the headers tell it: of a bound
 * key, or of a genuine token the rates of its user and of users. ERR_OK, or ERR_RATE_LIMITED with
 * *detail. */
enum err throttle_admit_caller(struct request *request, struct text *detail);
/* The same for callers of all tenants, once the request has named the tenant. A tenant is counted
 * once a request, however often it is asked for. */
MUST_CHECK bool throttle_admit_tenant(struct request *request, struct text tenant);
/* The same if only a token tells the tenant: for callers of all tenants, and those without a key. A
 * bound key has been judged by its own tenant. */
MUST_CHECK bool throttle_admit_token(struct request *request, enum token_kind kind,
                                     struct text token);
/* The limit of calls that end sessions with the tokens of one, if caller.token is genuine: for
 * calls that have it in their body. */
MUST_CHECK bool throttle_admit_end(struct request *request);
/* A gateway's call with the caller's token: the tenant's rate.authz. */
MUST_CHECK bool throttle_admit_authz(struct request *request);
/* Calls beyond the one that was counted for the tenant: a batch costs as many as it has tokens.
 * ERR_OK, or ERR_RATE_LIMITED with *detail. */
enum err throttle_admit_more(struct request *request, struct text tenant, int64_t calls,
                             struct text *detail);
/* Counts one token of a batch against its own tenant, for a key of all tenants that names none. The
 * RateLimit fields do not report it. */
MUST_CHECK bool throttle_admit_item(struct request *request, struct text token);
/* Logins of a user. */
MUST_CHECK bool throttle_admit_login(struct request *request, struct text tenant,
                                     struct text user_id);
/* Counts a token that was never issued: against the client, or against the user's address `ip` that
 * a service named (absent: against no address). */
MUST_CHECK bool throttle_note_forged_token(struct request *request, struct text ip);
/* The same for a token of a batch, which the RateLimit fields do not report. */
MUST_CHECK bool throttle_note_forged_item(const struct request *request, struct text ip);
/* Counts a wrong key; ERR_KEY_INVALID, or ERR_RATE_LIMITED with *detail. */
enum err throttle_note_wrong_key(struct request *request, struct text *detail);

/* The limit that the request exceeded, as a sentence. */
struct text throttle_refusal(const struct request *request);
/* Adds the RateLimit fields of the limits that the request counted against. */
void throttle_add_headers(struct MHD_Response *response, const struct request *request);
/* Seconds for Retry-After of a 429, at least 1. */
unsigned throttle_retry_after_s(const struct request *request);
