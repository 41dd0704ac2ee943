/* Walking X-Forwarded-For from the right. */
#include "proxies.h"

#include <stdlib.h>

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

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Cuts the last element off a comma-separated list. */
static struct text take_last_hop(struct text *list)
{
    size_t begin = list->length;
    while (begin > 0 && list->data[begin - 1] != ',')
        begin--;
    struct text hop = {list->data + begin, list->length - begin};
    list->length = begin == 0 ? 0 : begin - 1;
    while (hop.length > 0 && is_blank(hop.data[0])) {
        hop.data++;
        hop.length--;
    }
    while (hop.length > 0 && is_blank(hop.data[hop.length - 1]))
        hop.length--;
    return hop;
}

struct ip_address proxies_unwrap(const struct proxies *proxies, const struct ip_address *peer,
                                 struct text forwarded_for)
{
    struct ip_address client = *peer;
    while (forwarded_for.length > 0 && proxies_include(proxies, &client))
        if (!ip_parse(take_last_hop(&forwarded_for), &client))
            return *peer;
    return client;
}
