/* What a session is bound to: the networks and device fingerprints that it may be used from, and
 * what policy bind.ip and bind.device make of one that comes from elsewhere.
 *
 * A session knows its address of login, the fingerprint that came with it, and what was verified
 * for it later. IPv4 and IPv6 are only ever compared with their own kind: a device of a dual-stack
 * network has an address of each, and its next call may use either. So a session gets an address of
 * the other family with a refresh, whose token shows more than the access token does, or by a
 * verification; merely used from there it is used from elsewhere. A session whose login gave no
 * address adopts the first. A session whose login gave no fingerprint is bound to no
 * device, and stays so; of one that is, a device without a fingerprint is another device, like any
 * that shows another one: it may be verified, and is remembered then by the hash of an empty one.
 *
 * The record keeps, beside `ip`, items without gaps: a letter and its bytes, '4' an IPv4 address 4,
 * '6' an IPv6 address 16, 'f' a fingerprint's contexts_hash() 8. Addresses are kept whole, so that
 * binding.ipv4_prefix and binding.ipv6_prefix hold for living sessions as they are now. */
#pragma once

#include "address.h"
#include "session/model/contexts.h"
#include "session.h"
#include "policy.h"
#include "record.h"

/* What a caller shows, read. */
struct client_context {
    bool has_address, has_fingerprint;
    bool is_nowhere; /* it must have an address, and none is known: a Unix socket */
    struct ip_address address;
    uint8_t fingerprint[CONTEXT_HASH];
};
void binding_read(const struct keyring *keyring, const struct user_tag *owner,
                  const struct client_claims *claims, struct client_context *ret);

/* Bits. */
enum breach {
    BREACH_IP = 1,      /* another network */
    BREACH_DEVICE = 2,  /* another fingerprint, or none where there was one */
    BREACH_FAMILY = 4,  /* the session has an address of the other family alone */
    BREACH_FIRST = 8,   /* the session has no address at all yet */
    BREACH_NOWHERE = 16 /* the caller has to have an address, and none is known */
};
/* Compares with the session's items, as binding_items() gives them. */
unsigned binding_breaches(const struct conf *conf, struct text items,
                          const struct client_context *context);
/* True if the policy looks at what callers show. */
bool binding_counts(const struct policy *policy);
/* What the policy makes of breaches: the sternest of what it says to each. */
enum binding binding_verdict(const struct policy *policy, unsigned breaches);
/* Notes for the audit line the breaches that the policy minds. */
void binding_note(struct operation *operation, const struct policy *policy, unsigned breaches);
/* Notes them and refuses, if the policy does: with ERR_STEP_UP_REQUIRED,
 * or `bad` and REASON_BINDING; REASON_BINDING_FAMILY if it is only that the session has no address
 * of this family yet. False if the call may go on. */
bool binding_refuses(struct operation *operation, const struct policy *policy, unsigned breaches,
                     enum err bad);
/* True if the address is to be adopted: the policy binds to networks, and the session has none. */
bool binding_adopts(const struct policy *policy, unsigned breaches);

/* All items of the record, its `ip` among them; in the arena. */
struct text binding_items(const struct record *record, struct arena *arena);
/* At login: the fingerprint. */
void binding_begin(struct record *record, const struct client_context *context,
                   struct arena *arena);
/* Of what is shown what breaks the session's bounds (bits of enum breach), as items: what there is
 * to verify. */
void binding_print(const struct client_context *context, unsigned breaches, struct buffer *items);
/* The session may be used from there, too. Where there are many, the oldest of the kind goes. */
void binding_add(const struct conf *conf, struct record *record, struct text items,
                 struct arena *arena);
bool binding_has_fingerprint(struct text items, const uint8_t hash[CONTEXT_HASH]);
