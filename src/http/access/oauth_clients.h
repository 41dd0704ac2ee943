/* How OAuth clients authenticate: the name of a service key is the client's id, the key its secret
 * (RFC 6749, section 2.3.1). */
#pragma once

#include "http/exchange/request.h"

/* The client that Authorization names, as Basic or as Bearer with the key alone. ERR_OK with no
 * caller if the header is absent or of another scheme: the form may have the credentials. Else the
 * refusal with its *detail; wrong names and keys are counted as wrong keys. */
enum err oauth_clients_establish(struct request *request, struct text *detail);
/* The client that the form names by client_id and client_secret; absent without a client_secret. A
 * client_id alone is no credential, and ignored. ERR_BAD_REQUEST for credentials in two places or a
 * client_secret alone; ERR_KEY_MISSING where the row demands a client and there is none. */
enum err oauth_clients_present(struct request *request, struct text client_id,
                               struct text client_secret, struct text *detail);
/* True if Authorization is of the scheme Bearer, else the challenge is for Basic. */
bool oauth_clients_by_bearer(const struct request *request);
/* The key out of Authorization: Basic, decoded; absent if it has none. */
struct text oauth_clients_basic_key(struct arena *arena, struct text authorization);
