/* Sizes of the identifiers in tokens, key names and files. Tags are keyed hashes (token.h). */
#pragma once

#define TENANT_TAG 6
#define USER_TAG   8
#define OWNER_TAG  (TENANT_TAG + USER_TAG) /* a user of a tenant: both tags, one after the other */
#define SESSION_ID 8
/* Their length in key names, in base64url. */
#define TENANT_DIGITS 8
#define USER_DIGITS   11
/* Hash slots of a Redis Cluster (cluster specification, "Key distribution model"). */
#define SLOT_COUNT 16384
