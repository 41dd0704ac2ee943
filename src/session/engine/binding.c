/* Items of a session's contexts: read, compared, added. */
#include "binding.h"

#include <string.h>

#include "location.h"
#include "operation.h"

#define ITEMS_BYTES_MAX 240 /* a record's contexts have one byte for their length */

enum item_kind { ITEM_IPV4 = '4', ITEM_IPV6 = '6', ITEM_FINGERPRINT = 'f' };

struct item {
    char kind;
    const char *bytes;
    size_t length;
};

static size_t length_of(char kind)
{
    return kind == ITEM_IPV4          ? 4
           : kind == ITEM_IPV6        ? 16
           : kind == ITEM_FINGERPRINT ? CONTEXT_HASH
                                      : 0;
}

/* Reads the next item. False at the end, and at anything that is not ours. */
static bool next_item(struct text *rest, struct item *ret)
{
    if (rest->length == 0)
        return false;
    *ret = (struct item){rest->data[0], rest->data + 1, length_of(rest->data[0])};
    if (ret->length == 0 || rest->length < 1 + ret->length)
        return false;
    *rest = (struct text){rest->data + 1 + ret->length, rest->length - 1 - ret->length};
    return true;
}

static char kind_of(const struct ip_address *address)
{
    return address->family == AF_INET ? ITEM_IPV4 : ITEM_IPV6;
}

static struct ip_address address_of(const struct item *item)
{
    struct ip_address address = {.family = item->kind == ITEM_IPV4 ? AF_INET : AF_INET6};
    memcpy(address.bytes, item->bytes, item->length);
    return address;
}

/* --- the caller's claims --- */

void binding_read(const struct keyring *keyring, const struct user_tag *owner,
                  const struct client_claims *claims, struct client_context *ret)
{
    *ret = (struct client_context){0};
    ret->has_address = ip_parse(claims->ip, &ret->address);
    ret->is_nowhere = claims->ip.data != NULL && !ret->has_address;
    ret->has_fingerprint = claims->fingerprint.data != NULL;
    if (ret->has_fingerprint)
        contexts_hash(keyring, owner, CONTEXT_FINGERPRINT, claims->fingerprint, ret->fingerprint);
}

/* --- comparing --- */

static unsigned compare_address(const struct conf *conf, struct text items,
                                const struct ip_address *address)
{
    unsigned breach = BREACH_FIRST;
    struct item item;
    while (next_item(&items, &item)) {
        if (item.kind == ITEM_FINGERPRINT)
            continue;
        if (item.kind != kind_of(address)) {
            breach = breach == BREACH_FIRST ? BREACH_FAMILY : breach;
            continue;
        }
        struct ip_address known = address_of(&item);
        if (location_same_network(conf, &known, address))
            return 0;
        breach = BREACH_IP;
    }
    return breach;
}

static unsigned compare_fingerprint(struct text items, const struct client_context *context)
{
    bool bound = false;
    struct item item;
    struct text rest = items;
    while (next_item(&rest, &item))
        bound = bound || item.kind == ITEM_FINGERPRINT;
    if (!bound || !context->has_fingerprint)
        return 0;
    return binding_has_fingerprint(items, context->fingerprint) ? 0 : BREACH_DEVICE;
}

unsigned binding_breaches(const struct conf *conf, struct text items,
                          const struct client_context *context)
{
    unsigned breaches = compare_fingerprint(items, context);
    if (context->has_address)
        breaches |= compare_address(conf, items, &context->address);
    else if (context->is_nowhere)
        breaches |= BREACH_NOWHERE;
    return breaches;
}

bool binding_counts(const struct policy *policy)
{
    return policy->bind_ip != BINDING_OFF || policy->bind_device != BINDING_OFF;
}

/* The address breaches that the policy checks. Without an address there is nothing to verify. */
static unsigned minded_address(const struct policy *policy, unsigned breaches)
{
    unsigned minded = policy->bind_ip == BINDING_OFF ? 0 : BREACH_IP | BREACH_FAMILY;
    minded |= policy->bind_ip == BINDING_STRICT ? BREACH_NOWHERE : 0;
    return breaches & minded;
}

enum binding binding_verdict(const struct policy *policy, unsigned breaches)
{
    int64_t of_ip = minded_address(policy, breaches) ? policy->bind_ip : BINDING_OFF;
    int64_t of_device = breaches & BREACH_DEVICE ? policy->bind_device : BINDING_OFF;
    return (enum binding)(of_ip > of_device ? of_ip : of_device);
}

/* The breaches that the policy checks, for the audit line. */
static struct text word_of(const struct policy *policy, unsigned breaches)
{
    unsigned address = minded_address(policy, breaches);
    bool device = breaches & BREACH_DEVICE && policy->bind_device != BINDING_OFF;
    if (address == BREACH_FAMILY)
        return device ? TEXT("family device") : TEXT("family");
    if (address)
        return device ? TEXT("ip device") : TEXT("ip");
    return device ? TEXT("device") : (struct text){0};
}

void binding_note(struct operation *operation, const struct policy *policy, unsigned breaches)
{
    operation->facts.binding = word_of(policy, breaches);
}

static struct text reason_of(const struct policy *policy, unsigned breaches)
{
    bool device = breaches & BREACH_DEVICE && policy->bind_device == BINDING_STRICT;
    bool family = minded_address(policy, breaches) == BREACH_FAMILY;
    return family && !device ? TEXT(REASON_BINDING_FAMILY) : TEXT(REASON_BINDING);
}

bool binding_refuses(struct operation *operation, const struct policy *policy, unsigned breaches,
                     enum err bad)
{
    enum binding verdict = binding_verdict(policy, breaches);
    binding_note(operation, policy, breaches);
    if (verdict == BINDING_STRICT)
        operation_refuse(operation, bad, reason_of(policy, breaches));
    else if (verdict == BINDING_VERIFY)
        operation_refuse(operation, ERR_STEP_UP_REQUIRED, (struct text){0});
    return verdict >= BINDING_VERIFY;
}

bool binding_adopts(const struct policy *policy, unsigned breaches)
{
    return breaches & BREACH_FIRST && policy->bind_ip >= BINDING_VERIFY;
}

/* --- the record --- */

static void append_item(struct buffer *out, char kind, const void *bytes)
{
    buffer_add_char(out, kind);
    buffer_add(out, bytes, length_of(kind));
}

struct text binding_items(const struct record *record, struct arena *arena)
{
    struct ip_address address;
    SCOPED(buffer_free) struct buffer items = {0};
    buffer_add_text(&items, record->contexts);
    if (ip_parse(record->ip, &address))
        append_item(&items, kind_of(&address), address.bytes);
    return arena_copy(arena, buffer_text(&items));
}

/* The items without the oldest of this kind. */
static struct text without_oldest(struct text items, char kind, struct arena *arena)
{
    SCOPED(buffer_free) struct buffer kept = {0};
    bool dropped = false;
    struct item item;
    while (next_item(&items, &item))
        if (item.kind == kind && !dropped)
            dropped = true;
        else
            append_item(&kept, item.kind, item.bytes);
    return arena_copy(arena, buffer_text(&kept));
}

/* An item replaces one of its own kind, so neither networks nor fingerprints push out the other:
 * each has half of the room. */
static void add_item(struct record *record, char kind, const void *bytes, struct arena *arena)
{
    struct text rest = record->contexts;
    bool is_fingerprint = kind == ITEM_FINGERPRINT;
    size_t taken = 0;
    struct item item;
    while (next_item(&rest, &item))
        taken += (item.kind == ITEM_FINGERPRINT) == is_fingerprint ? 1 + item.length : 0;
    if (taken + 1 + length_of(kind) > ITEMS_BYTES_MAX / 2)
        record->contexts = without_oldest(record->contexts, kind, arena);
    SCOPED(buffer_free) struct buffer items = {0};
    buffer_add_text(&items, record->contexts);
    append_item(&items, kind, bytes);
    record->contexts = arena_copy(arena, buffer_text(&items));
}

void binding_begin(struct record *record, const struct client_context *context, struct arena *arena)
{
    record->contexts = (struct text){0};
    if (context->has_fingerprint)
        add_item(record, ITEM_FINGERPRINT, context->fingerprint, arena);
}

void binding_print(const struct client_context *context, unsigned breaches, struct buffer *items)
{
    if (breaches & (BREACH_IP | BREACH_FAMILY))
        append_item(items, kind_of(&context->address), context->address.bytes);
    if (breaches & BREACH_DEVICE)
        append_item(items, ITEM_FINGERPRINT, context->fingerprint);
}

bool binding_has_fingerprint(struct text items, const uint8_t hash[CONTEXT_HASH])
{
    struct item item;
    bool same = false;
    while (next_item(&items, &item))
        same =
            same || (item.kind == ITEM_FINGERPRINT && crypto_equal(item.bytes, hash, CONTEXT_HASH));
    return same;
}

static bool covers(const struct conf *conf, struct text known, const struct item *item)
{
    if (item->kind == ITEM_FINGERPRINT)
        return binding_has_fingerprint(known, (const uint8_t *)item->bytes);
    struct ip_address address = address_of(item);
    return compare_address(conf, known, &address) == 0;
}

void binding_add(const struct conf *conf, struct record *record, struct text items,
                 struct arena *arena)
{
    struct item item;
    while (next_item(&items, &item))
        if (!covers(conf, binding_items(record, arena), &item))
            add_item(record, item.kind, item.bytes, arena);
}
