/* The caller: credentials, the operator who uses a service, the address of the call. */
#pragma once

#include "cors.h"
#include "http/exchange/request_private.h"

/* Fills caller.address and user_agent. X-Forwarded-For counts only if a trusted proxy wrote it. */
void callers_locate(struct request *request);
/* Fills request->caller as the route's row requires; ERR_OK, or the refusal with its *detail. */
enum err callers_establish(struct request *request, struct text *detail);
/* The service whose key was presented, with the scope of the call; its name must be this, unless
 * absent. ERR_OK, or the refusal with its *detail; wrong keys and names are counted. */
enum err callers_present_key(struct request *request, struct text name, struct text key,
                             struct text *detail);
/* The same for the key in Authorization: Bearer. */
enum err callers_present_bearer(struct request *request, struct text *detail);
/* Reads the credential that a gateway hands on: caller becomes its user. `target` is the request
 * that the gateway asks about, which decides whether a cookie counts. ERR_KEY_MISSING if there is
 * none of this service's; ERR_TOKEN_INVALID if it can be no user's; ERR_ORIGIN_FORBIDDEN; each with
 * its *detail. The token itself is not judged. */
enum err callers_establish_user(struct request *request, const struct cors_target *target,
                                struct text *detail);
/* The service key of a gateway, which is not the caller of its call: the one in X-Gateway-Key.
 * ERR_OK with the key; KEY_MISSING if there is none or more than one, or the refusal of a wrong
 * key, which is counted. */
enum err callers_find_gateway(struct request *request, const struct service_key **ret,
                              struct text *detail);
/* Notes for the audit line that an address which the caller gave could not be read. */
void callers_note_unreadable(struct request *request, struct text given);
/* True if the call shows a credential that cannot be forged: a known key, or a token whose
 * MAC holds, whether its session is active or not. For requests with headers, answered or not. */
bool callers_are_genuine(struct request *request);
