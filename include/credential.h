/* Credentials of this service in texts where none should be: ids, names, log values. */
#pragma once

#include "text.h"

/* Characters of a credential's prefix, which may be shown: "sa_" and the like. */
enum { CREDENTIAL_PREFIX = 3 };

/* The first piece of the text that looks like a credential of this service: a service key (sk_), a
 * token (sa_, sr_) or the id of a challenge (sc_), also if its end is missing. False if there is
 * none. */
bool credential_find(struct text text, struct text *ret);
/* True if the text begins with such a piece: it is then no id but a misplaced secret. */
bool credential_begins(struct text text);
