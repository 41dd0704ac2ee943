/* Host and port, as Redis and people write them. */
#include "endpoint.h"

#include <string.h>
#include <strings.h>

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

bool endpoint_set(struct endpoint *endpoint, struct text host, int64_t port)
{
    if (!address_is_host(host) || port < 1 || port > 65535)
        return false;
    memcpy(endpoint->host, host.data, host.length);
    endpoint->host[host.length] = '\0';
    endpoint->port = (uint16_t)port;
    return true;
}

static struct text without_brackets(struct text host)
{
    if (host.length > 2 && host.data[0] == '[' && host.data[host.length - 1] == ']')
        return (struct text){host.data + 1, host.length - 2};
    return host;
}

bool endpoint_parse_redirect(struct text text, const char *answering, struct endpoint *ret)
{
    const char *colon = text.length ? memrchr(text.data, ':', text.length) : NULL;
    if (!colon)
        return false;
    struct text host = {text.data, (size_t)(colon - text.data)};
    struct text digits = {colon + 1, text.length - host.length - 1};
    int64_t port;
    if (!text_to_int(digits, 1, 65535, &port))
        return false;
    bool known = host.length > 0 && !text_equal(host, TEXT("?"));
    return endpoint_set(ret, known ? without_brackets(host) : text_of(answering), port);
}
