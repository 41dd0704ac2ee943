/* Private to the json_*.c files: from text to jansson's values and back. All memory that jansson
 * frees is wiped, since it may have held tokens. */
#pragma once

#include <jansson.h>

#include "json.h"

enum { JSON_NAME_SHOWN = 40 };

/* Reads text that must hold one object, nested no deeper than 32 levels, without duplicates. NULL
 * with a sentence in *error that names a member at most, never a value. The caller releases it. */
json_t *json_parse_object(struct text body, struct buffer *error);

/* One value, compactly: members in their order, numbers as short as they read back the same. */
void json_print_value(struct json_writer *writer, const json_t *value);

/* A member's name for a message: shortened, printable ASCII only. */
const char *json_quote_name(char out[static JSON_NAME_SHOWN + 4], const char *name);

/* jansson's iterators take no const, but do not write. */
json_t *json_iterable(const json_t *object);
