/* The lifetime of a configuration: created, reference-counted, published, compared. */
#include "conf_options.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "memory.h"

/* Guards the pointer only; a published configuration never changes. Held to take a reference, never
 * across anything that can wait. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct conf *published;

static struct counted_conf *counted(struct conf *conf)
{
    return (struct counted_conf *)conf;
}

struct conf *conf_defaults(void)
{
    struct counted_conf *made = xcalloc(1, sizeof(*made));
    atomic_init(&made->references, 1);
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
        row->type->set_initial(row, conf_option_field(row, &made->conf));
    return &made->conf;
}

static void free_conf(struct conf *conf)
{
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
        row->type->release(conf_option_field(row, conf));
    for (size_t i = 0; i < conf->key_count; i++) {
        free(conf->keys[i].name);
        free(conf->keys[i].tenant);
    }
    free(conf->keys);
    for (size_t i = 0; i < conf->audience_count; i++)
        conf_audience_release(&conf->audiences[i]);
    free(conf->audiences);
    free(conf->path);
    free(counted(conf));
}

struct conf *conf_ref(struct conf *conf)
{
    atomic_fetch_add_explicit(&counted(conf)->references, 1, memory_order_relaxed);
    return conf;
}

void conf_unref(struct conf **conf)
{
    struct conf *given = *conf;
    *conf = NULL;
    if (given != NULL &&
        atomic_fetch_sub_explicit(&counted(given)->references, 1, memory_order_acq_rel) == 1)
        free_conf(given);
}

struct conf *conf_current(void)
{
    pthread_mutex_lock(&lock);
    assert(published != NULL);
    struct conf *conf = conf_ref(published);
    pthread_mutex_unlock(&lock);
    return conf;
}

void conf_publish(struct conf *conf)
{
    pthread_mutex_lock(&lock);
    struct conf *old = published;
    published = conf;
    pthread_mutex_unlock(&lock);
    conf_unref(&old);
}

/* "section.name" of every row, so that names need no owner. */
static const char *const option_titles[OPTION_COUNT] = {
#define OPTION_TEXT(section, name, ...)    #section "." #name,
#define OPTION_LIST(section, name, ...)    #section "." #name,
#define OPTION_INT(section, name, ...)     #section "." #name,
#define OPTION_BYTES(section, name, ...)   #section "." #name,
#define OPTION_SECONDS(section, name, ...) #section "." #name,
#define OPTION_MILLIS(section, name, ...)  #section "." #name,
#define OPTION_BOOL(section, name, ...)    #section "." #name,
#define OPTION_ENUM(section, name, ...)    #section "." #name,
#define OPTION_FLAGS(section, name, ...)   #section "." #name,
#include "tbl/options.h"
};

const char *conf_frozen_difference(const struct conf *running, const struct conf *wanted)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (!row->reload && !conf_option_is_same(row, running, wanted))
            return option_titles[i];
    }
    return NULL;
}
