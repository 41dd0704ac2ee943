/* The least of all that may end the verdict. */
#include "verdict_lifetime.h"

static int64_t sooner_end(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t authz_lifetime_of(const struct authz_lifetime *of)
{
    int64_t left_s = of->most_s;
    if (!of->identified || of->stale || of->bound || of->forgeable)
        return 0;
    left_s = sooner_end(left_s, of->access_end_s - of->now_s);
    left_s = sooner_end(left_s, of->idle_end_s - of->now_s);
    if (of->fresh_end_s != 0)
        left_s = sooner_end(left_s, of->fresh_end_s - of->now_s);
    if (of->jwt_ttl_s != 0)
        left_s = sooner_end(left_s, of->jwt_ttl_s / 2);
    return left_s > 0 ? left_s : 0;
}
