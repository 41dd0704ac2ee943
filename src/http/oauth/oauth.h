/* The OAuth door: introspection (RFC 7662), revocation (RFC 7009), refresh (RFC 6749, section 6)
 * and metadata (RFC 8414), over the same operations as the native calls. This header has what its
 * handlers share; the handlers themselves are declared by http/api/handlers.h. */
#pragma once

#include "http/exchange/form.h"
#include "http/exchange/request.h"

/* A row of form_read()'s table. */
#define OAUTH_FIELD(type, member, form_kind, most)                                                \
    {                                                                                             \
        .name = #member, .kind = (form_kind), .offset = offsetof(type, member), .maximum = (most) \
    }

/* Members that each form may have: the client's credentials. */
struct oauth_client {
    struct text client_id, client_secret;
};
#define OAUTH_CLIENT_FIELDS(type)                                                       \
    {.name = "client_id",                                                               \
     .kind = FORM_ANY,                                                                  \
     .offset = offsetof(type, client) + offsetof(struct oauth_client, client_id)},      \
    {                                                                                   \
        .name = "client_secret", .kind = FORM_ANY,                                      \
        .offset = offsetof(type, client) + offsetof(struct oauth_client, client_secret) \
    }

/* Checks return GO_ON, or ANSWERED with the refusal. */

/* Reads the form into *target: 415 for another Content-Type or charset, 400 for a fault in it. */
MUST_CHECK enum handled oauth_read_form(struct request *request, const struct form_field *fields,
                                        size_t count, void *target);
/* Establishes the client, by Authorization or by the form, and counts its tenant's rate: 400, 401,
 * 403, 429. */
MUST_CHECK enum handled oauth_check_client(struct request *request,
                                           const struct oauth_client *client);
/* 400 if a member that the call needs is absent. */
MUST_CHECK enum handled oauth_demand(struct request *request, const char *name, struct text value);

/* Answers 200 with the JSON in request_body(), which no cache keeps. */
MUST_CHECK enum handled oauth_answer(struct request *request);
/* "scope" as a member: the roles that are scope-tokens, blank-separated; nothing if there are none.
 * `roles` is a JSON array of strings. */
void oauth_write_scope(struct json_writer *writer, struct text roles);
