/* Addresses in their written forms. */
#include "address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

static size_t ip_length(int family)
{
    return family == AF_INET ? 4 : 16;
}

/* ::ffff:a.b.c.d becomes a.b.c.d. */
static void unmap(struct ip_address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->family == AF_INET6 && memcmp(address->bytes, mapped, sizeof(mapped)) == 0) {
        memmove(address->bytes, address->bytes + sizeof(mapped), 4);
        memset(address->bytes + 4, 0, 12);
        address->family = AF_INET;
    }
}

/* The literal as written, not yet unmapped. */
static bool parse_literal(struct text text, struct ip_address *ret)
{
    char literal[INET6_ADDRSTRLEN];
    if (text.length == 0 || text.length >= sizeof(literal) ||
        memchr(text.data, '\0', text.length) != NULL)
        return false;
    memcpy(literal, text.data, text.length);
    literal[text.length] = '\0';
    struct ip_address address = {.family = AF_INET};
    if (inet_pton(AF_INET, literal, address.bytes) != 1) {
        address = (struct ip_address){.family = AF_INET6};
        if (inet_pton(AF_INET6, literal, address.bytes) != 1)
            return false;
    }
    *ret = address;
    return true;
}

bool ip_parse(struct text text, struct ip_address *ret)
{
    if (!parse_literal(text, ret))
        return false;
    unmap(ret);
    return true;
}

bool ip_from_sockaddr(const struct sockaddr *socket_address, struct ip_address *ret)
{
    *ret = (struct ip_address){.family = socket_address->sa_family};
    if (socket_address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, socket_address, sizeof(in));
        memcpy(ret->bytes, &in.sin_addr, 4);
        return true;
    }
    if (socket_address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, socket_address, sizeof(in6));
        memcpy(ret->bytes, &in6.sin6_addr, 16);
        unmap(ret);
        return true;
    }
    return false;
}

struct text ip_print(const struct ip_address *address, char out[INET6_ADDRSTRLEN])
{
    const char *printed = inet_ntop(address->family, address->bytes, out, INET6_ADDRSTRLEN);
    assert(printed != NULL);
    return text_of(printed);
}

bool ip_equal(const struct ip_address *a, const struct ip_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_length(a->family)) == 0;
}

/* Letters, digits, hyphens, dots and underscores (Docker makes names with them); the label rules of
 * RFC 1123 are the resolver's. A name of digits and dots only is a mistyped IPv4 address, which
 * resolvers read in surprising ways (127.1). */
static bool is_host_name(struct text host)
{
    struct ip_address literal;
    if (parse_literal(host, &literal))
        return literal.family == AF_INET;
    bool letters = false;
    for (size_t i = 0; i < host.length; i++) {
        char c = host.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && c != '-' && c != '.' && c != '_')
            return false;
        letters = letters || letter;
    }
    return letters && host.data[0] != '-' && host.data[0] != '.';
}

static bool is_ipv6_literal(struct text host)
{
    struct ip_address literal;
    return parse_literal(host, &literal) && literal.family == AF_INET6;
}

bool address_is_host(struct text text)
{
    return text.length > 0 && text.length < ADDRESS_HOST_MAX &&
           (is_host_name(text) || is_ipv6_literal(text));
}

bool address_split(struct text text, char host[ADDRESS_HOST_MAX], uint16_t *port)
{
    const char *colon = text.length > 0 ? memrchr(text.data, ':', text.length) : NULL;
    if (colon == NULL)
        return false;
    struct text name = {text.data, (size_t)(colon - text.data)};
    struct text digits = {colon + 1, text.length - name.length - 1};
    bool brackets = name.length >= 2 && name.data[0] == '[' && colon[-1] == ']';
    if (brackets)
        name = (struct text){name.data + 1, name.length - 2};
    int64_t number;
    bool good = brackets ? is_ipv6_literal(name) : is_host_name(name);
    if (!good || name.length >= ADDRESS_HOST_MAX || !text_to_int(digits, 1, 65535, &number))
        return false;
    memcpy(host, name.data, name.length);
    host[name.length] = '\0';
    *port = (uint16_t)number;
    return true;
}

struct text address_print(const char *host, unsigned port, char out[ADDRESS_TEXT_MAX])
{
    bool bare = strchr(host, ':') == NULL;
    int length = snprintf(out, ADDRESS_TEXT_MAX, bare ? "%s:%u" : "[%s]:%u", host, port);
    return (struct text){out, (size_t)length};
}

/* The zone reaches up to the bracket or the end; only IPv6 addresses have one. */
static bool without_zone(struct text text, char out[ADDRESS_HOST_MAX], struct text *ret)
{
    const char *zone = text.length > 0 ? memchr(text.data, '%', text.length) : NULL;
    *ret = text;
    if (zone == NULL)
        return true;
    size_t length = (size_t)(zone - text.data), behind = 0;
    const char *bracket = memchr(zone, ']', text.length - length);
    if (bracket != NULL)
        behind = (size_t)(text.data + text.length - bracket);
    if (memchr(text.data, ':', length) == NULL || length + behind > ADDRESS_HOST_MAX)
        return false;
    memcpy(out, text.data, length);
    if (behind > 0)
        memcpy(out + length, bracket, behind);
    *ret = (struct text){out, length + behind};
    return true;
}

bool ip_read(struct text text, struct ip_address *ret)
{
    char unzoned[ADDRESS_HOST_MAX], host[ADDRESS_HOST_MAX];
    uint16_t port;
    if (!without_zone(text_trim(text), unzoned, &text))
        return false;
    if (ip_parse(text, ret))
        return true;
    bool in_brackets = text.length > 2 && text.data[0] == '[' && text.data[text.length - 1] == ']';
    if (in_brackets)
        return memchr(text.data, ':', text.length) &&
               ip_parse((struct text){text.data + 1, text.length - 2}, ret);
    return address_split(text, host, &port) && ip_parse(text_of(host), ret);
}

/* True if both agree in the first `bits` bits. */
static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

/* True if no bit after the prefix is set. */
static bool is_network_address(const struct ip_address *address, unsigned prefix)
{
    struct ip_address zeroed = *address;
    unsigned bits = (unsigned)ip_length(address->family) * 8;
    for (unsigned bit = prefix; bit < bits; bit++)
        zeroed.bytes[bit / 8] &= (uint8_t) ~(0x80u >> (bit % 8));
    return ip_equal(&zeroed, address);
}

struct ip_address ip_client(const struct ip_address *address)
{
    enum { NETWORK = 8 };
    struct ip_address client = *address;
    if (client.family == AF_INET6)
        memset(client.bytes + NETWORK, 0, sizeof(client.bytes) - NETWORK);
    return client;
}

bool ip_network_parse(struct text text, struct ip_network *ret)
{
    const char *slash = text.length > 0 ? memchr(text.data, '/', text.length) : NULL;
    struct text literal = {text.data, slash ? (size_t)(slash - text.data) : text.length};
    struct ip_address address;
    if (!parse_literal(literal, &address))
        return false;
    int64_t prefix = (int64_t)ip_length(address.family) * 8;
    if (slash != NULL) {
        struct text digits = {slash + 1, text.length - literal.length - 1};
        bool number = digits.length > 0 && digits.length <= 3 && digits.data[0] != '-';
        if (!number || !text_to_int(digits, 0, prefix, &prefix))
            return false;
    }
    if (!is_network_address(&address, (unsigned)prefix))
        return false;
    /* ::ffff:10.0.0.0/104 is 10.0.0.0/8; a shorter prefix than the mapping's stays IPv6. */
    struct ip_address unmapped = address;
    unmap(&unmapped);
    if (unmapped.family != address.family && prefix >= 96) {
        address = unmapped;
        prefix -= 96;
    }
    *ret = (struct ip_network){address, (unsigned)prefix};
    return true;
}

bool ip_network_contains(const struct ip_network *network, const struct ip_address *address)
{
    return network->address.family == address->family &&
           same_prefix(network->address.bytes, address->bytes, network->prefix);
}
