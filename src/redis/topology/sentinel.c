/* The search: all sentinels, then the servers that they name, the most credible first. */
#include "sentinel.h"

#include <assert.h>
#include <stdlib.h>

#include "container_of.h"
#include "log.h"
#include "redis/calls/node.h"

/* The answer of one sentinel. */
struct sentinel_vote {
    struct store_call call;
    struct sentinel_search *search;
    struct endpoint master;
    int64_t epoch; /* -1: it named none, or a server that has been tried; 0: it gave no epoch */
};

static void end_search(struct sentinel_search *search, const struct endpoint *master, enum err err)
{
    free(search->votes);
    search->votes = NULL;
    settings_unref(&search->settings);
    if (err != ERR_SHUTTING_DOWN)
        search->done(search, master, err);
}

/* --- whom to believe --- */

static size_t sentinel_votes_for(const struct sentinel_search *search,
                                 const struct endpoint *master)
{
    size_t votes = 0;
    for (size_t i = 0; i < search->settings->seed_count; i++)
        votes += search->votes[i].epoch >= 0 && endpoint_equal(&search->votes[i].master, master);
    return votes;
}

static bool has_sentinel_majority(const struct sentinel_search *search,
                                  const struct endpoint *master)
{
    return 2 * sentinel_votes_for(search, master) > search->settings->seed_count;
}

static bool is_better(const struct sentinel_search *search, const struct sentinel_vote *vote,
                      const struct sentinel_vote *best)
{
    bool most = has_sentinel_majority(search, &vote->master),
         others = has_sentinel_majority(search, &best->master);
    if (most != others)
        return most;
    if (vote->epoch != best->epoch)
        return vote->epoch > best->epoch;
    return sentinel_votes_for(search, &vote->master) > sentinel_votes_for(search, &best->master);
}

static bool is_credible(const struct sentinel_search *search, const struct sentinel_vote *vote)
{
    return vote->epoch > search->newest_epoch || has_sentinel_majority(search, &vote->master) ||
           (vote->epoch == search->newest_epoch && endpoint_equal(&vote->master, &search->master));
}

/* NULL if none is left. */
static const struct sentinel_vote *best_sentinel_vote(const struct sentinel_search *search)
{
    const struct sentinel_vote *best = NULL;
    for (size_t i = 0; i < search->settings->seed_count; i++) {
        const struct sentinel_vote *vote = &search->votes[i];
        if (vote->epoch < 0 || !is_credible(search, vote))
            continue;
        if (!best || is_better(search, vote, best))
            best = vote;
    }
    return best;
}

/* --- roles --- */

static void try_best(struct sentinel_search *search);

static void try_another(struct sentinel_search *search, enum err err)
{
    search->err = err;
    if (search->candidate_epoch > search->newest_epoch)
        search->newest_epoch = search->candidate_epoch;
    for (size_t i = 0; i < search->settings->seed_count; i++)
        if (endpoint_equal(&search->votes[i].master, &search->candidate))
            search->votes[i].epoch = -1;
    try_best(search);
}

static void on_role(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct sentinel_search *search = container_of(call, struct sentinel_search, role_call);
    if (err == ERR_SHUTTING_DOWN) {
        end_search(search, NULL, err);
        return;
    }
    const struct store_reply *role = err == ERR_OK ? store_reply_element(reply, 0) : NULL;
    if (role && text_equal(store_reply_text(role), TEXT("master"))) {
        search->master = search->candidate;
        search->epoch = search->candidate_epoch;
        end_search(search, &search->master, ERR_OK);
        return;
    }
    if (err == ERR_OK)
        search->demoted(search, &search->candidate);
    try_another(search, err != ERR_OK ? err : ERR_STORE_REFUSED);
}

static void try_best(struct sentinel_search *search)
{
    static const struct text arguments[] = {{"ROLE", 4}};
    const struct sentinel_vote *best = best_sentinel_vote(search);
    if (!best) {
        end_search(search, NULL, search->err);
        return;
    }
    search->candidate = best->master;
    search->candidate_epoch = best->epoch;
    search->role_call = link_question(arguments, 1, LINK_ANSWER_MS, on_role);
    link_send_direct(search->link, &search->role_call, &search->candidate);
}

/* --- sentinels --- */

static const struct endpoint *sentinel_of(const struct sentinel_vote *vote)
{
    return &vote->search->settings->seeds[vote - vote->search->votes];
}

/* The answer is [name, value, ...]; NULL if it lacks this one. */
static const struct store_reply *find_sentinel_value(const struct store_reply *reply,
                                                     struct text name)
{
    for (size_t i = 0; i + 1 < store_reply_count(reply); i += 2)
        if (text_equal(store_reply_text(store_reply_element(reply, i)), name))
            return store_reply_element(reply, i + 1);
    return NULL;
}

static bool read_vote(const struct store_reply *reply, struct sentinel_vote *ret)
{
    const struct store_reply *host = find_sentinel_value(reply, TEXT("ip"));
    const struct store_reply *port = find_sentinel_value(reply, TEXT("port"));
    const struct store_reply *epoch = find_sentinel_value(reply, TEXT("config-epoch"));
    int64_t number, told;
    if (!host || !port || !epoch || !store_reply_int(port, 1, UINT16_MAX, &number) ||
        !store_reply_int(epoch, 0, INT64_MAX, &told) ||
        !endpoint_set(&ret->master, store_reply_text(host), number))
        return false;
    ret->epoch = told;
    return true;
}

static void count_sentinel_vote(struct sentinel_search *search, enum err err)
{
    if (search->err != ERR_SHUTTING_DOWN && err != ERR_OK)
        search->err = err;
    if (--search->owed > 0)
        return;
    if (search->err == ERR_SHUTTING_DOWN)
        end_search(search, NULL, ERR_SHUTTING_DOWN);
    else
        try_best(search);
}

/* [host, port] */
static void on_address(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct sentinel_vote *vote = (struct sentinel_vote *)call;
    const struct store_reply *host = err == ERR_OK ? store_reply_element(reply, 0) : NULL;
    const struct store_reply *port = err == ERR_OK ? store_reply_element(reply, 1) : NULL;
    int64_t number;
    if (host && port && store_reply_int(port, 1, UINT16_MAX, &number) &&
        endpoint_set(&vote->master, store_reply_text(host), number))
        vote->epoch = 0;
    else if (err == ERR_OK)
        err = ERR_STORE_PROTOCOL;
    count_sentinel_vote(vote->search, err);
}

static void send_question(struct sentinel_vote *vote, const struct text arguments[3],
                          unsigned flags, store_done_fn *done)
{
    vote->call = link_question(arguments, 3, LINK_ANSWER_MS, done);
    vote->call.flags = flags;
    link_send_direct(vote->search->link, &vote->call, sentinel_of(vote));
}

/* The command that older ACLs of sentinels grant: it names the master, without an epoch. */
static void ask_for_address(struct sentinel_vote *vote)
{
    struct sentinel_search *search = vote->search;
    const struct endpoint *sentinel = sentinel_of(vote);
    const struct text arguments[] = {TEXT("SENTINEL"), TEXT("get-master-addr-by-name"),
                                     text_of(search->settings->sentinel_name)};
    if (!search->denied_logged)
        log_warning("sentinel_epoch_not_told",
                    "host=%s port=%u hint=\"grant +sentinel|master: without it most sentinels must "
                    "name a new master\"",
                    sentinel->host, sentinel->port);
    search->denied_logged = true;
    send_question(vote, arguments, 0, on_address);
}

static void on_vote(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct sentinel_vote *vote = (struct sentinel_vote *)call;
    if (err == ERR_STORE_DENIED) {
        ask_for_address(vote);
        return;
    }
    if (err == ERR_OK && !read_vote(reply, vote))
        err = ERR_STORE_PROTOCOL;
    count_sentinel_vote(vote->search, err);
}

static void ask_sentinel(struct sentinel_search *search, struct sentinel_vote *vote)
{
    const struct text arguments[] = {TEXT("SENTINEL"), TEXT("MASTER"),
                                     text_of(search->settings->sentinel_name)};
    vote->search = search;
    vote->epoch = -1;
    node_get_sentinel(search->link, sentinel_of(vote));
    send_question(vote, arguments, STORE_DISPENSABLE, on_vote);
}

void sentinel_search(struct sentinel_search *search)
{
    assert(!search->settings);
    search->settings = settings_ref(search->link->settings);
    if (search->last_settings != search->settings->number)
        search->master = (struct endpoint){0};
    search->last_settings = search->settings->number;
    search->votes = xcalloc(search->settings->seed_count, sizeof(search->votes[0]));
    search->owed = search->settings->seed_count;
    search->err = ERR_STORE_UNAVAILABLE;
    search->newest_epoch = search->master.host[0] ? search->epoch : -1;
    for (size_t i = 0; i < search->settings->seed_count; i++)
        ask_sentinel(search, &search->votes[i]);
}
