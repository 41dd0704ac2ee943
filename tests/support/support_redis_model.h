/* Redis in memory, as far as the domain uses it: its commands, and its scripts rewritten in C. One
 * step at a time, on the fake clock. check_redis_model.c compares it with a real server. */
#pragma once

#include "store.h"

struct redis_model;
struct redis_model *redis_model_create(void);
void redis_model_destroy(struct redis_model **model);

/* The name of a call: "write", "epoch", "touch", "tenant-write", "offer", "take", "index", "marks"
 * for the domain's scripts, else the command. */
const char *redis_model_name(const struct store_script *script, const struct text *arguments);

/* Runs one call of include/store.h and appends the reply as a server sends it. */
void redis_model_run(struct redis_model *model, const struct store_script *script, struct text key,
                     const struct text *arguments, size_t count, struct buffer *reply);

/* Reports each key that changes. */
void redis_model_watch(struct redis_model *model, void (*changed)(void *user, struct text key),
                       void *user);

/* The field's value; absent if there is none. Borrowed until the next change. */
struct text redis_model_field(struct redis_model *model, struct text key, struct text field);
bool redis_model_has(struct redis_model *model, struct text key);
/* Milliseconds since 1970; 0: no expiry, or no key. */
int64_t redis_model_expiry(struct redis_model *model, struct text key);
/* Writes bytes that no script would. */
void redis_model_set_field(struct redis_model *model, struct text key, struct text field,
                           struct text value);
void redis_model_set(struct redis_model *model, struct text key, struct text value);
/* Drops all data without a report: a server that came back empty. */
void redis_model_flush(struct redis_model *model);
/* A copy of all data; and back to it, without a report: a server that lost writes. */
struct redis_model *redis_model_copy(const struct redis_model *model);
void redis_model_restore(struct redis_model *model, const struct redis_model *copy);
