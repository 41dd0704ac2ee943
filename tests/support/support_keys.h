/* Keyrings for tests: known keys, so that answers worked out elsewhere can be checked. */
#pragma once

#include "crypto.h"

/* Bytes 00..1f, 20..3f and 40..5f. */
#define SUPPORT_NAMES "names 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define SUPPORT_KEY_1 "key 1 202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\n"
#define SUPPORT_KEY_2 "key 2 404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f\n"

/* The ring of a key file with this content; crypto_init() is called. Fails the test if refused. */
struct keyring *support_keyring(const char *content);

/* A file of its own with this content and mode, in `path`; the caller unlinks it. */
#define SUPPORT_PATH 64
void support_key_file(const char *content, unsigned mode, char path[SUPPORT_PATH]);

/* The next number of a fixed sequence (SplitMix64), to mutate inputs the same way in every run. */
uint64_t support_next(uint64_t *state);
