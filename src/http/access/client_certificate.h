/* When a client certificate counts as the credential of a request.
 *
 * A connection may carry requests of others: a proxy shows its certificate and passes on what
 * browsers and services sent. So the certificate stands for its service key only in a request that
 * nobody else can have written: without Authorization, Cookie, Origin, Forwarded, X-Forwarded-* and
 * X-Original-*. Beside another credential it is refused, since either could be meant. */
#pragma once

#include "err.h"
#include "http/exchange/guard.h"
#include "http/exchange/request.h"
#include "http/server/client.h"

enum certificate_use {
    CERTIFICATE_ABSENT,  /* the connection has none */
    CERTIFICATE_COUNTS,  /* the only credential of the request */
    CERTIFICATE_IGNORED, /* the request may be somebody else's */
    CERTIFICATE_TWICE,   /* it has another credential, too: 400 */
    CERTIFICATE_OUTDATED /* not valid at this time */
};

/* The rule. `cookie`: the request presents a session cookie. Pure. */
enum certificate_use client_certificate_use(const struct client_certificate *certificate,
                                            const struct headers *headers, bool cookie,
                                            int64_t now_s);
/* Judges the request's connection. *key is set if the certificate counts and stands for a service
 * key, else NULL. ERR_OK also if there is none or it does not count; *detail then says why not, if
 * that is worth saying. */
enum err client_certificate_establish(struct request *request, const struct service_key **key,
                                      struct text *detail);
