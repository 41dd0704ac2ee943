/* The rule for client certificates, and the key that one stands for. */
#include "client_certificate.h"

#include "cookies.h"
#include "http/exchange/request_private.h"
#include "metrics.h"

enum certificate_use client_certificate_use(const struct client_certificate *certificate,
                                            const struct headers *headers, bool cookie,
                                            int64_t now_s)
{
    const struct text *values = headers->values;
    if (!certificate->shown)
        return CERTIFICATE_ABSENT;
    if (values[HEADER_AUTHORIZATION].data != NULL || cookie)
        return CERTIFICATE_TWICE;
    if (values[HEADER_COOKIE].data != NULL || values[HEADER_ORIGIN].data != NULL ||
        headers->relayed)
        return CERTIFICATE_IGNORED;
    bool valid = now_s >= certificate->valid_from_s && now_s <= certificate->valid_until_s;
    return valid ? CERTIFICATE_COUNTS : CERTIFICATE_OUTDATED;
}

static enum err find_certified_key(struct request *request, const struct service_key **key,
                                   struct text *detail)
{
    *key = conf_find_certificate(request->conf, request->private->client->certificate.pin);
    if (*key != NULL)
        return ERR_OK;
    metrics_add(METRIC_KEYS_REJECTED, 1);
    *detail = TEXT("No service key has this client certificate any more");
    return ERR_KEY_INVALID;
}

enum err client_certificate_establish(struct request *request, const struct service_key **key,
                                      struct text *detail)
{
    const struct client_certificate *certificate = &request->private->client->certificate;
    struct text cookie;
    *key = NULL;
    if (!certificate->shown)
        return ERR_OK;
    switch (client_certificate_use(certificate, &request->private->headers,
                                   cookies_presented(request, &cookie) != COOKIE_ABSENT,
                                   request->wall_ms / 1000)) {
    case CERTIFICATE_ABSENT:
        break;
    case CERTIFICATE_COUNTS:
        return find_certified_key(request, key, detail);
    case CERTIFICATE_IGNORED:
        *detail = TEXT("The client certificate does not count in a request with Cookie, Origin, "
                       "Forwarded, X-Forwarded-* or X-Original-*");
        break;
    case CERTIFICATE_TWICE:
        *detail = TEXT("The request has two credentials: the client certificate of its connection, "
                       "and Authorization or the session cookie");
        return ERR_HEADER_INVALID;
    case CERTIFICATE_OUTDATED:
        *detail = TEXT("The client certificate has expired, or is not valid yet");
        return ERR_KEY_INVALID;
    }
    return ERR_OK;
}
