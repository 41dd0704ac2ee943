/* Each tenant's share of the journal. */
#include "journal_shares.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Tags are keyed hashes, which no caller can choose: they need no seed. */
static const struct hash_seed no_seed;

void journal_shares_init(struct journal_shares *shares)
{
    *shares = (struct journal_shares){.tenants = hash_tagged_table(&no_seed)};
}

void journal_shares_fini(struct journal_shares *shares)
{
    assert(shares->bytes == 0 && shares->unconfirmed == 0 && shares->tenants.chains.count == 0);
    (void)shares;
}

/* --- in and out --- */

/* NULL if the tenant has none. */
static struct journal_share *find_share(const struct journal_shares *shares, const uint8_t *tag)
{
    return (struct journal_share *)hash_tagged_find(&shares->tenants, tag,
                                                    hash_of_tenant(&no_seed, tag));
}

static struct journal_share *add_share(struct journal_shares *shares, const uint8_t *tag)
{
    struct journal_share *share = xcalloc(1, sizeof(*share));
    memcpy(share->by_tag.tag, tag, TENANT_TAG);
    hash_table_add(&shares->tenants, &share->by_tag.node, hash_of_tenant(&no_seed, tag));
    return share;
}

static void remove_share(struct journal_shares *shares, struct journal_share *share)
{
    assert(share->unconfirmed == 0);
    hash_table_remove(&shares->tenants, &share->by_tag.node,
                      hash_of_tenant(&no_seed, share->by_tag.tag));
    free(share);
}

struct journal_share *journal_shares_put(struct journal_shares *shares,
                                         const uint8_t owner[OWNER_TAG], int64_t size,
                                         bool confirmed)
{
    struct journal_share *share = find_share(shares, owner);
    if (!share)
        share = add_share(shares, owner);
    int64_t unconfirmed = confirmed ? 0 : size;
    share->bytes += size;
    share->unconfirmed += unconfirmed;
    shares->bytes += size;
    shares->unconfirmed += unconfirmed;
    return share;
}

void journal_shares_confirm(struct journal_shares *shares, struct journal_share *share,
                            int64_t size)
{
    assert(size > 0 && share->unconfirmed >= size && shares->unconfirmed >= share->unconfirmed);
    share->unconfirmed -= size;
    shares->unconfirmed -= size;
}

void journal_shares_take(struct journal_shares *shares, struct journal_share *share, int64_t size,
                         bool confirmed)
{
    if (!confirmed)
        journal_shares_confirm(shares, share, size);
    assert(size > 0 && share->bytes >= size && shares->bytes >= share->bytes);
    share->bytes -= size;
    shares->bytes -= size;
    if (share->bytes == 0)
        remove_share(shares, share);
}

/* --- what is fair --- */

bool journal_shares_allow(const struct journal_shares *shares, const uint8_t owner[OWNER_TAG],
                          int64_t size, int64_t limit)
{
    const struct journal_share *share = find_share(shares, owner);
    int64_t own = share ? share->unconfirmed : 0;
    return own + size <= limit - (shares->unconfirmed + size);
}

struct balance {
    int64_t bytes, confirmed;
};

/* An array, since finding the level reads them many times while workers wait. */
static struct balance *list_balances(const struct journal_shares *shares, size_t *count)
{
    const struct hash_array *chains = &shares->tenants.chains; /* as many chains as tenants */
    struct balance *balances = xcalloc(chains->count, sizeof(*balances));
    *count = 0;
    for (uint32_t i = 0; i < chains->count; i++)
        for (const struct hash_node *node = *hash_array_at(chains, i); node; node = node->next) {
            const struct journal_share *share = (const struct journal_share *)node;
            balances[(*count)++] =
                (struct balance){share->bytes, share->bytes - share->unconfirmed};
        }
    return balances;
}

/* Bytes of confirmed ones above the level. */
static int64_t sum_above(const struct balance *balances, size_t count, int64_t level)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t more = balances[i].bytes - level;
        if (more > 0)
            sum += more < balances[i].confirmed ? more : balances[i].confirmed;
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
