/* A tenant's state in Redis under `sd:p:{tag}`: a sealed record (record.h). */
#pragma once

#include "record.h"
#include "tenants.h"

/* Appends the stored bytes. */
void tenant_record_write(const struct keyring *keyring, bool encrypt, const uint8_t tag[TENANT_TAG],
                         const struct tenant *tenant, struct buffer *out);
/* Opens stored bytes and returns a new reference. NULL if they do not open, or hold an invalid
 * policy. A policy that contradicts today's defaults is used as it was accepted. Plain records are
 * read only if !encrypt. */
struct tenant *tenant_record_read(const struct keyring *keyring, bool encrypt,
                                  const uint8_t tag[TENANT_TAG], struct text stored,
                                  struct arena *arena);
