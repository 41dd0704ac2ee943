/* Walking X-Forwarded-For from the right. */
#include "proxies.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

void proxies_load(struct proxies *proxies, const struct conf_list *list)
{
    proxies->count = 0;
    proxies->networks = list->count == 0 ? NULL : xcalloc(list->count, sizeof(*proxies->networks));
    for (size_t i = 0; i < list->count; i++) {
        if (ip_network_parse(text_of(list->items[i]), &proxies->networks[proxies->count])) {
            proxies->count++;
        } else {
            char quoted[64];
            log_warning("trusted_proxy_ignored", "network=\"%s\"",
                        log_quote(quoted, sizeof(quoted), text_of(list->items[i])));
        }
    }
}

void proxies_free(struct proxies *proxies)
{
    free(proxies->networks);
    *proxies = (struct proxies){0};
}

bool proxies_include(const struct proxies *proxies, const struct ip_address *address)
{
    for (size_t i = 0; i < proxies->count; i++)
        if (ip_network_contains(&proxies->networks[i], address))
            return true;
    return false;
}

/* Cuts the last element off a comma-separated list. */
static struct text take_last_hop(struct text *list)
{
    size_t begin = list->length;
    while (begin > 0 && list->data[begin - 1] != ',')
        begin--;
    struct text hop = {list->data + begin, list->length - begin};
    list->length = begin == 0 ? 0 : begin - 1;
    return text_trim(hop);
}

/* An address alone, as RFC 7239 (section 6) writes an IPv6 one, or either with a port. */
static bool read_hop(struct text hop, struct ip_address *ret)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    if (ip_parse(hop, ret))
        return true;
    bool in_brackets = hop.length > 2 && hop.data[0] == '[' && hop.data[hop.length - 1] == ']';
    if (in_brackets)
        return memchr(hop.data, ':', hop.length) &&
               ip_parse((struct text){hop.data + 1, hop.length - 2}, ret);
    return address_split(hop, host, &port) && ip_parse(text_of(host), ret);
}

struct ip_address proxies_unwrap(const struct proxies *proxies, const struct ip_address *peer,
                                 struct text forwarded_for, struct text *odd)
{
    struct ip_address client = *peer;
    *odd = (struct text){0};
    while (forwarded_for.length > 0 && proxies_include(proxies, &client)) {
        struct text hop = take_last_hop(&forwarded_for);
        if (!read_hop(hop, &client)) {
            *odd = hop;
            return *peer;
        }
    }
    return client;
}
