/* Each tenant's part of the journal. */
#include "journal_shares.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Tags are keyed hashes, which nobody chooses: they need no seed. */
static const struct cache_seed no_seed;

static uint64_t hash_of_node(const struct cache_seed *seed, const struct cache_node *node)
{
    return cache_hash_tenant(seed, ((const struct journal_share *)node)->tag);
}

void journal_shares_init(struct journal_shares *shares)
{
    *shares = (struct journal_shares){.tenants = {.seed = &no_seed, .hash = hash_of_node}};
}

void journal_shares_fini(struct journal_shares *shares)
{
    assert(shares->bytes == 0 && shares->unsettled == 0 && shares->tenants.chains.count == 0);
    (void)shares;
}

/* --- in and out --- */

/* The link to the tenant's share; NULL if it has none. */
static struct cache_node **find(const struct journal_shares *shares, const uint8_t *tag)
{
    struct cache_node **link =
        cache_table_chain(&shares->tenants, cache_hash_tenant(&no_seed, tag));
    while (link && *link && memcmp(((struct journal_share *)*link)->tag, tag, JOURNAL_TENANT) != 0)
        link = &(*link)->next;
    return link && *link ? link : NULL;
}

static struct journal_share *add_share(struct journal_shares *shares, const uint8_t *tag)
{
    struct journal_share *share = xcalloc(1, sizeof(*share));
    memcpy(share->tag, tag, JOURNAL_TENANT);
    cache_table_add(&shares->tenants, &share->node, cache_hash_tenant(&no_seed, tag));
    return share;
}

static void remove_share(struct journal_shares *shares, struct journal_share *share)
{
    *find(shares, share->tag) = share->node.next;
    cache_table_shrink(&shares->tenants);
    free(share);
}

struct journal_share *journal_shares_put(struct journal_shares *shares,
                                         const uint8_t owner[JOURNAL_OWNER], int64_t size,
                                         bool settled)
{
    struct cache_node **link = find(shares, owner);
    struct journal_share *share = link ? (struct journal_share *)*link : add_share(shares, owner);
    int64_t unsettled = settled ? 0 : size;
    share->bytes += size;
    share->unsettled += unsettled;
    shares->bytes += size;
    shares->unsettled += unsettled;
    return share;
}

void journal_shares_settle(struct journal_shares *shares, struct journal_share *share, int64_t size)
{
    share->unsettled -= size;
    shares->unsettled -= size;
}

void journal_shares_take(struct journal_shares *shares, struct journal_share *share, int64_t size,
                         bool settled)
{
    if (!settled)
        journal_shares_settle(shares, share, size);
    share->bytes -= size;
    shares->bytes -= size;
    if (share->bytes == 0)
        remove_share(shares, share);
}

/* --- what is fair --- */

bool journal_shares_allow(const struct journal_shares *shares, const uint8_t owner[JOURNAL_OWNER],
                          int64_t size, int64_t limit)
{
    struct cache_node **link = find(shares, owner);
    int64_t own = link ? ((struct journal_share *)*link)->unsettled : 0;
    return own + size <= limit - (shares->unsettled + size);
}

struct balance {
    int64_t bytes, settled;
};

/* Side by side, since finding the level reads them many times while workers wait. */
static struct balance *list_balances(const struct journal_shares *shares, size_t *count)
{
    const struct cache_array *chains = &shares->tenants.chains; /* as many as tenants */
    struct balance *balances = xcalloc(chains->count, sizeof(*balances));
    *count = 0;
    for (uint32_t i = 0; i < chains->count; i++)
        for (const struct cache_node *node = *cache_array_at(chains, i); node; node = node->next) {
            const struct journal_share *share = (const struct journal_share *)node;
            balances[(*count)++] = (struct balance){share->bytes, share->bytes - share->unsettled};
        }
    return balances;
}

/* What settled ones above the level come to. */
static int64_t sum_above(const struct balance *balances, size_t count, int64_t level)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t more = balances[i].bytes - level;
        if (more > 0)
            sum += more < balances[i].settled ? more : balances[i].settled;
    }
    return sum;
}

int64_t journal_shares_level(const struct journal_shares *shares, int64_t surplus)
{
    size_t count;
    struct balance *balances = list_balances(shares, &count);
    int64_t low = 0, high = shares->bytes;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (sum_above(balances, count, middle) >= surplus)
            low = middle;
        else
            high = middle - 1;
    }
    free(balances);
    return low;
}
