/* Bindings of a session: the networks and device fingerprints that it may be used from. Policy
 * bind.ip and bind.device decide about a use from elsewhere.
 *
 * A session knows its login address, the login's fingerprint, and whatever was verified later. IPv4
 * and IPv6 are compared only with their own kind: a device of a dual-stack network may use either.
 * A session gets an address of the other family by a refresh, whose token proves more than the
 * access token does, or by a verification. A mere use from it counts as from elsewhere. A session
 * whose login gave no address adopts the first.
 *
 * A session whose login gave no fingerprint stays bound to no device. For a bound one, a device
 * without a fingerprint is another device, like any with a different one. It may be verified, and
 * is then remembered by the hash of an empty fingerprint.
 *
 * Beside `ip` the record keeps items without gaps, a letter and its bytes: '4' an IPv4 address 4,
 * '6' an IPv6 address 16, 'f' a fingerprint's contexts_hash() 8. Addresses are kept whole, so the
 * present binding.ipv4_prefix and binding.ipv6_prefix hold for active sessions too. */
#pragma once

#include "address.h"
#include "policy.h"
#include "record.h"
#include "session.h"
#include "session/model/contexts.h"

/* The caller's claims, parsed. */
struct client_context {
    bool has_address, has_fingerprint;
    bool is_nowhere; /* an address is required, and none is known: a Unix socket */
    struct ip_address address;
    uint8_t fingerprint[CONTEXT_HASH];
};
void binding_read(const struct keyring *keyring, const struct user_tag *owner,
                  const struct client_claims *claims, struct client_context *ret);

/* Bits. */
enum breach {
    BREACH_IP = 1,      /* another network */
    BREACH_DEVICE = 2,  /* another fingerprint, or none although the session has one */
    BREACH_FAMILY = 4,  /* the session has only addresses of the other family */
    BREACH_FIRST = 8,   /* the session has no address yet */
    BREACH_NOWHERE = 16 /* an address is required, and none is known */
};
/* Compares with the session's items, as from binding_items(). Returns bits of enum breach. */
unsigned binding_breaches(const struct conf *conf, struct text items,
                          const struct client_context *context);
/* True if the policy checks bindings. */
bool binding_counts(const struct policy *policy);
/* The policy's verdict on the breaches: the strictest of its verdicts on each. */
enum binding binding_verdict(const struct policy *policy, unsigned breaches);
/* Notes for the audit line the breaches that the policy checks. */
void binding_note(struct operation *operation, const struct policy *policy, unsigned breaches);
/* Notes the breaches, and refuses if the policy does: with ERR_STEP_UP_REQUIRED, or `bad` and
 * REASON_BINDING. The reason is REASON_BINDING_FAMILY if the session only lacks an address of this
 * family. False if the call may go on. */
bool binding_refuses(struct operation *operation, const struct policy *policy, unsigned breaches,
                     enum err bad);
/* True if the session is to adopt the address: the policy binds to networks, and the session has
 * none. */
bool binding_adopts(const struct policy *policy, unsigned breaches);

/* All items of the record, including `ip`; in the arena. */
struct text binding_items(const struct record *record, struct arena *arena);
/* At login: stores the fingerprint. */
void binding_begin(struct record *record, const struct client_context *context,
                   struct arena *arena);
/* Writes the claims that break the bindings (bits of enum breach) as items: they are to be
 * verified. */
void binding_print(const struct client_context *context, unsigned breaches, struct buffer *items);
/* Adds items that the session may be used from. If there is no room, the oldest of the kind
 * goes. */
void binding_add(const struct conf *conf, struct record *record, struct text items,
                 struct arena *arena);
bool binding_has_fingerprint(struct text items, const uint8_t hash[CONTEXT_HASH]);
