/* docs/openapi.yaml as JSON without blanks, and its tag. Both are made when the daemon is built, by
 * tests/support/openapi_document.py. */
#pragma once

#include <stddef.h>

extern const char openapi_json[];
extern const size_t openapi_json_length;
extern const char openapi_etag[]; /* ETAG_LENGTH bytes; nodes of one version have the same */
