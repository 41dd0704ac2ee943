/* Names of scripts. SHA-1 because EVALSHA wants it; nothing rests on its strength. */
#include "store.h"

#include <openssl/sha.h>
#include <string.h>

void store_script_prepare(struct store_script *script)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1((const unsigned char *)script->source, strlen(script->source), digest);
    text_to_hex(script->sha1, digest, sizeof(digest));
    script->sha1[2 * sizeof(digest)] = '\0';
}
