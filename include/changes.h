/* Changes for audit and log: a bounded list of JSON strings `name: before -> after`. */
#pragma once

#include "memory.h"
#include "text.h"

#define CHANGES_MAX 32 /* the last string counts the others */

struct changes {
    struct buffer *out; /* the strings with commas between them, without brackets */
    size_t count;       /* of all changes */
};

/* Adds one; absent values are "none". Long names and values are cut. */
void changes_add(struct changes *changes, struct text name, struct text before, struct text after);
/* Adds one without its values, which are secret or too large. */
void changes_add_hidden(struct changes *changes, struct text name);
/* Adds the string with the number of changes that are not in the list. */
void changes_end(struct changes *changes);
/* Adds a change for each member, at any depth ("roles.admin.access_ttl"), in which two JSON objects
 * differ. A text that is no object counts as empty. */
void changes_add_json(struct changes *changes, struct text before, struct text after);
