/* A keyring as crypto.c sees it: hash states that already have their key. */
#pragma once

#include <sodium.h>

#include "crypto.h"

#define KEYRING_SUBKEY 16

/* One numbered key, as its two derived states. */
struct keyring_key {
    crypto_generichash_blake2b_state subkey; /* waits for a subject, gives KEYRING_SUBKEY bytes */
    uint8_t mac[crypto_shorthash_siphash24_KEYBYTES];
};

/* The numbered key; NULL if it is not in the ring. Valid while the ring is. */
const struct keyring_key *keyring_find(const struct keyring *keyring, uint8_t key_id);
/* The names secret personalised for a purpose; waits for input, gives 32 bytes. */
const crypto_generichash_blake2b_state *keyring_purpose(const struct keyring *keyring,
                                                        enum crypto_purpose purpose);
