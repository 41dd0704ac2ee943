/* Shards, each a hash table and a list by age. All texts live about as long, so the oldest is the
 * one that is over first. */
#include "signatures.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "container_of.h"
#include "crypto.h"
#include "hash.h"

enum {
    SHARDS = 16,       /* a power of two */
    OVER_AT_ONCE = 16, /* texts whose time is over, removed with one that is stored */
    CHAIN = sizeof(void *)
};

struct kept_text {
    struct hash_node node;
    struct kept_text *older, *younger;
    uint8_t key[SIGNATURES_KEY];
    int64_t signed_s, expires_s;
    size_t length;
    char text[];
};

struct signature_shard {
    pthread_mutex_t lock;
    struct hash_table table;
    struct kept_text *oldest, *youngest;
    size_t texts, bytes;
} __attribute__((aligned(CACHE_LINE)));

struct signatures {
    struct signature_shard shards[SHARDS];
};

/* Keys are secret hashes already. */
static uint64_t hash_of_key(const uint8_t key[SIGNATURES_KEY])
{
    uint64_t hash;
    memcpy(&hash, key + 1, sizeof(hash));
    return hash;
}

static uint64_t hash_of_kept(const struct hash_seed *seed, const struct hash_node *node)
{
    (void)seed;
    return hash_of_key(container_of(node, const struct kept_text, node)->key);
}

static struct signature_shard *shard_of(struct signatures *signatures,
                                        const uint8_t key[SIGNATURES_KEY])
{
    return &signatures->shards[key[0] % SHARDS];
}

struct signatures *signatures_create(void)
{
    struct signatures *signatures = aligned_alloc(CACHE_LINE, sizeof(*signatures));
    if (!signatures)
        abort();
    memset(signatures, 0, sizeof(*signatures));
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&signatures->shards[i].lock, NULL);
        signatures->shards[i].table.hash = hash_of_kept;
    }
    return signatures;
}

/* --- with the shard's lock --- */

static struct kept_text *find_kept(const struct signature_shard *shard,
                                   const uint8_t key[SIGNATURES_KEY])
{
    struct hash_node **link = hash_table_chain(&shard->table, hash_of_key(key));
    for (struct hash_node *node = link ? *link : NULL; node; node = node->next) {
        struct kept_text *kept = container_of(node, struct kept_text, node);
        if (memcmp(kept->key, key, SIGNATURES_KEY) == 0)
            return kept;
    }
    return NULL;
}

static void drop_kept(struct signature_shard *shard, struct kept_text *kept)
{
    hash_table_remove(&shard->table, &kept->node, hash_of_key(kept->key));
    *(kept->older ? &kept->older->younger : &shard->oldest) = kept->younger;
    *(kept->younger ? &kept->younger->older : &shard->youngest) = kept->older;
    shard->texts--;
    shard->bytes -= memory_taken(kept) + CHAIN;
    crypto_wipe(kept, sizeof(*kept) + kept->length);
    free(kept);
}

static void add_kept(struct signature_shard *shard, struct kept_text *kept)
{
    hash_table_add(&shard->table, &kept->node, hash_of_key(kept->key));
    kept->older = shard->youngest;
    *(shard->youngest ? &shard->youngest->younger : &shard->oldest) = kept;
    shard->youngest = kept;
    shard->texts++;
    shard->bytes += memory_taken(kept) + CHAIN;
}

static int64_t half_s(int64_t signed_s, int64_t expires_s)
{
    return signed_s + (expires_s - signed_s) / 2;
}

static void make_room(struct signature_shard *shard, size_t most, int64_t now_s)
{
    while (shard->oldest && shard->bytes > most)
        drop_kept(shard, shard->oldest);
    for (int i = 0; i < OVER_AT_ONCE && shard->oldest &&
                    half_s(shard->oldest->signed_s, shard->oldest->expires_s) <= now_s;
         i++)
        drop_kept(shard, shard->oldest);
}

/* --- as callers see it --- */

void signatures_destroy(struct signatures **signatures)
{
    struct signatures *own = *signatures;
    *signatures = NULL;
    for (size_t i = 0; own && i < SHARDS; i++) {
        while (own->shards[i].oldest)
            drop_kept(&own->shards[i], own->shards[i].oldest);
        pthread_mutex_destroy(&own->shards[i].lock);
    }
    free(own);
}

bool signatures_get(struct signatures *signatures, const uint8_t key[SIGNATURES_KEY], int64_t now_s,
                    int64_t last_s, struct arena *arena, struct signed_text *ret)
{
    struct signature_shard *shard = shard_of(signatures, key);
    pthread_mutex_lock(&shard->lock);
    const struct kept_text *kept = find_kept(shard, key);
    bool serves = kept && kept->signed_s <= now_s && kept->expires_s <= last_s &&
                  now_s < half_s(kept->signed_s, kept->expires_s);
    if (serves) {
        ret->text = arena_copy(arena, (struct text){kept->text, kept->length});
        ret->signed_s = kept->signed_s;
        ret->expires_s = kept->expires_s;
    }
    pthread_mutex_unlock(&shard->lock);
    return serves;
}

void signatures_put(struct signatures *signatures, const uint8_t key[SIGNATURES_KEY],
                    const struct signed_text *signed_text, size_t most)
{
    struct signature_shard *shard = shard_of(signatures, key);
    struct kept_text *kept = xmalloc(sizeof(*kept) + signed_text->text.length);
    *kept = (struct kept_text){.signed_s = signed_text->signed_s,
                               .expires_s = signed_text->expires_s,
                               .length = signed_text->text.length};
    memcpy(kept->key, key, SIGNATURES_KEY);
    memcpy(kept->text, signed_text->text.data, kept->length);
    pthread_mutex_lock(&shard->lock);
    struct kept_text *before = find_kept(shard, key);
    if (before)
        drop_kept(shard, before);
    add_kept(shard, kept);
    make_room(shard, most / SHARDS, signed_text->signed_s);
    pthread_mutex_unlock(&shard->lock);
}

void signatures_usage(struct signatures *signatures, struct signatures_usage *ret)
{
    *ret = (struct signatures_usage){0};
    for (size_t i = 0; i < SHARDS; i++) {
        struct signature_shard *shard = &signatures->shards[i];
        pthread_mutex_lock(&shard->lock);
        ret->texts += shard->texts;
        ret->bytes += shard->bytes;
        pthread_mutex_unlock(&shard->lock);
    }
}
