/* The state of a tenant as it lies in Redis under `sd:p:{tag}`: bytes of its own, sealed like a
 * user's records.
 *
 * Head: byte 0 format (0x01 sealed, 0x02 plain), byte 1 key id (0 if plain). Subject of the subkey
 * and additional data: the tenant's tag. Content, without gaps: kind 'p', version 6,
 * not_before_ms 6, ended_s 5, reason (1), actor (1), the policy's JSON (2; empty: none). Integers
 * big-endian, (n) a text with its length in n bytes before it. */
#pragma once

#include "memory.h"
#include "tenants.h"

/* "sd:p:{" tag in 8 base64url digits "}" */
#define TENANT_KEY_LENGTH 15
void tenant_key(const uint8_t tag[TENANT_TAG], char ret[TENANT_KEY_LENGTH]);
/* The tag out of the name of a key; false for any other key. */
bool tenant_key_read(struct text key, uint8_t tag[TENANT_TAG]);

void tenant_record_write(const struct keyring *keyring, bool encrypt, const uint8_t tag[TENANT_TAG],
                         const struct tenant *tenant, struct buffer *out);
/* Opens stored bytes: a new reference. NULL if they do not open, *foreign telling whether they are
 * sealed under a key that the ring lacks. A policy that contradicts today's defaults is taken as it
 * was accepted. Plain ones are read only if !encrypt. */
struct tenant *tenant_record_read(const struct keyring *keyring, bool encrypt,
                                  const uint8_t tag[TENANT_TAG], struct text stored, bool *foreign);
