/* What was changed, for the record: a list of JSON strings `name: before -> after`, bounded. */
#pragma once

#include "memory.h"
#include "text.h"

#define CHANGES_MAX 32 /* more are counted in the last string */

struct changes {
    struct buffer *out; /* the strings with commas between them, without brackets */
    size_t count;       /* of all changes */
};

/* Adds one; absent values are "none". Long names and values are cut. */
void changes_add(struct changes *changes, struct text name, struct text before, struct text after);
/* Adds one of which the values are nobody's business, or too much to show. */
void changes_add_hidden(struct changes *changes, struct text name);
/* Adds the string that tells how many are not in the list. */
void changes_end(struct changes *changes);
/* Adds a change for each member, at whatever depth ("roles.admin.access_ttl"), in which two JSON
 * objects differ. What is no object has no members. */
void changes_add_json(struct changes *changes, struct text before, struct text after);
