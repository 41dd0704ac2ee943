/* Walks X-Forwarded-For from the right. */
#include "proxies.h"

#include <stdlib.h>

#include "memory.h"

void proxies_load(struct proxies *proxies, const struct conf_list *list)
{
    proxies->count = 0;
    proxies->local = false;
    proxies->networks = list->count == 0 ? NULL : xcalloc(list->count, sizeof(*proxies->networks));
    for (size_t i = 0; i < list->count; i++) {
        if (text_equal(text_of(list->items[i]), TEXT(PROXY_UNIX))) {
            proxies->local = true;
        } else if (ip_network_parse(text_of(list->items[i]), &proxies->networks[proxies->count])) {
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
    if (address->family == AF_UNSPEC)
        return proxies->local;
    for (size_t i = 0; i < proxies->count; i++)
        if (ip_network_contains(&proxies->networks[i], address))
            return true;
    return false;
}

/* Cuts the last element off a comma-separated list; empty ones do not count (RFC 9110, section
 * 5.6.1). False if there is no other. */
static bool take_last_hop(struct text *list, struct text *ret)
{
    do {
        size_t begin = list->length;
        while (begin > 0 && list->data[begin - 1] != ',')
            begin--;
        *ret = text_trim((struct text){list->data + begin, list->length - begin});
        list->length = begin == 0 ? 0 : begin - 1;
    } while (ret->length == 0 && list->length > 0);
    return ret->length > 0;
}

/* Walks from the right up to the first untrusted hop, or the last of all. *client is unchanged if
 * there is none. False, with the hop in *unreadable, if one is unreadable. */
static bool walk(const struct proxies *proxies, struct text list, struct ip_address *client,
                 struct text *unreadable)
{
    struct text hop;
    *unreadable = (struct text){0};
    while (take_last_hop(&list, &hop)) {
        if (!ip_read(hop, client)) {
            *unreadable = hop;
            return false;
        }
        if (!proxies_include(proxies, client))
            return true;
    }
    return true;
}

struct ip_address proxies_unwrap(const struct proxies *proxies, const struct ip_address *peer,
                                 struct text forwarded_for, struct text *unreadable)
{
    struct ip_address client = *peer;
    *unreadable = (struct text){0};
    if (!proxies_include(proxies, peer) || walk(proxies, forwarded_for, &client, unreadable))
        return client;
    return *peer;
}

bool proxies_read(const struct proxies *proxies, struct text given, struct ip_address *ret)
{
    struct text unreadable;
    *ret = (struct ip_address){.family = AF_UNSPEC};
    return walk(proxies, given, ret, &unreadable) && ret->family != AF_UNSPEC;
}
