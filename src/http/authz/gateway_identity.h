/* The signed identity in an allowing answer: for gateways that sessiond knows alone. */
#pragma once

#include "gateway_settings.h"
#include "http/exchange/request.h"

/* The signed identity that the settings ask for, and who asks. */
struct authz_signing {
    const struct audience *audience; /* NULL: none is wanted */
    const struct service_key *key;   /* the gateway's; NULL: it is known by its connection */
};

/* Finds the audience of the settings and admits the gateway: it calls over the Unix socket or from
 * a trusted proxy, or presents a service key of scope validate in X-Gateway-Key. The audience's
 * conditions then narrow the settings. ERR_OK, or the refusal with its *detail: SETTING_INVALID for
 * an unknown audience, FORBIDDEN, SCOPE_MISSING, RATE_LIMITED for the gateway. */
enum err authz_admit_gateway(struct request *request, struct authz_settings *settings,
                             struct authz_signing *ret, struct text *detail);

/* Signs the identity of an accepted validation, if one is wanted: the text and the seconds that are
 * left of it; absent and 0 if none is. ERR_OK, or a condition that the session misses with its
 * *detail: TENANT_FORBIDDEN, ROLE_MISSING, INSUFFICIENT_AUTHENTICATION, noted in the operation. */
enum err authz_sign(struct validate *validate, const struct authz_signing *signing,
                    struct text *ret, int64_t *left_s, struct text *detail);
