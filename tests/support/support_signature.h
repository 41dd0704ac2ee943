/* Verification of ES256 signatures, for tests. */
#pragma once

#include "text.h"

/* True if the signature, r and s of 32 bytes each, is the input's by the key with these
 * coordinates, each in base64url. */
bool support_verifies(const char *x, const char *y, struct text input, const uint8_t *signature);
