#include "address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static struct address map_ipv4(const void *ipv4)
{
    struct address address;
    memcpy(address.bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(address.bytes + sizeof(mapped_prefix), ipv4, 4);
    return address;
}

static bool is_mapped(const struct address *address)
{
    return memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool address_of_socket(const struct sockaddr *socket, struct address *ret)
{
    if (socket->sa_family == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, socket, sizeof(ipv4));
        *ret = map_ipv4(&ipv4.sin_addr);
        return true;
    }
    if (socket->sa_family == AF_INET6) {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, socket, sizeof(ipv6));
        memcpy(ret->bytes, &ipv6.sin6_addr, sizeof(ret->bytes));
        return true;
    }
    return false;
}

bool address_parse(struct text text, struct address *ret)
{
    char string[ADDRESS_TEXT];
    if (text.length == 0 || text.length >= sizeof(string) ||
        memchr(text.data, '\0', text.length) != NULL) {
        return false;
    }
    memcpy(string, text.data, text.length);
    string[text.length] = '\0';

    struct in_addr ipv4;
    if (inet_pton(AF_INET, string, &ipv4) == 1) {
        *ret = map_ipv4(&ipv4);
        return true;
    }
    return inet_pton(AF_INET6, string, ret->bytes) == 1;
}

size_t address_print(const struct address *address, char out[ADDRESS_TEXT])
{
    const char *printed =
        is_mapped(address)
            ? inet_ntop(AF_INET, address->bytes + sizeof(mapped_prefix), out, ADDRESS_TEXT)
            : inet_ntop(AF_INET6, address->bytes, out, ADDRESS_TEXT);
    return printed == NULL ? 0 : strlen(printed);
}

bool network_parse(struct text text, struct network *ret)
{
    const char *slash = text.length == 0 ? NULL : memchr(text.data, '/', text.length);
    struct text host = text;
    if (slash != NULL) {
        host.length = (size_t)(slash - text.data);
    }
    struct network network = {.prefix = 128};
    if (!address_parse(host, &network.base)) {
        return false;
    }
    if (slash != NULL) {
        bool dotted = memchr(host.data, ':', host.length) == NULL;
        struct text bits = {slash + 1, text.length - host.length - 1};
        int64_t prefix;
        if (!text_to_int(bits, 0, dotted ? 32 : 128, &prefix)) {
            return false;
        }
        network.prefix = (unsigned)prefix + (dotted ? 96 : 0);
    }
    *ret = network;
    return true;
}

void networks_load(struct networks *networks, const struct conf_list *list)
{
    networks->count = 0;
    networks->items = list->count == 0 ? NULL : xcalloc(list->count, sizeof(*networks->items));
    for (size_t i = 0; i < list->count; i++) {
        if (network_parse(text_of(list->items[i]), &networks->items[networks->count])) {
            networks->count++;
        } else {
            char quoted[64];
            log_warning("trusted-proxy-ignored", "network=\"%s\"",
                        log_quote(quoted, sizeof(quoted), text_of(list->items[i])));
        }
    }
}

void networks_free(struct networks *networks)
{
    free(networks->items);
    *networks = (struct networks){0};
}

static bool network_contains(const struct network *network, const struct address *address)
{
    unsigned whole = network->prefix / 8;
    unsigned rest = network->prefix % 8;
    if (memcmp(network->base.bytes, address->bytes, whole) != 0) {
        return false;
    }
    if (rest == 0) {
        return true;
    }
    unsigned mask = 0xffu & (0xff00u >> rest);
    return ((network->base.bytes[whole] ^ address->bytes[whole]) & mask) == 0;
}

bool networks_contain(const struct networks *networks, const struct address *address)
{
    for (size_t i = 0; i < networks->count; i++) {
        if (network_contains(&networks->items[i], address)) {
            return true;
        }
    }
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
    while (begin > 0 && list->data[begin - 1] != ',') {
        begin--;
    }
    struct text hop = {list->data + begin, list->length - begin};
    list->length = begin == 0 ? 0 : begin - 1;
    while (hop.length > 0 && is_blank(hop.data[0])) {
        hop.data++;
        hop.length--;
    }
    while (hop.length > 0 && is_blank(hop.data[hop.length - 1])) {
        hop.length--;
    }
    return hop;
}

struct address address_of_client(const struct networks *trusted, const struct address *peer,
                                 struct text forwarded_for)
{
    struct address client = *peer;
    while (forwarded_for.length > 0 && networks_contain(trusted, &client)) {
        if (!address_parse(take_last_hop(&forwarded_for), &client)) {
            return *peer;
        }
    }
    return client;
}
