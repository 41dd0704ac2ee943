/* The search: three questions in flight, each vote counted as it comes. */
#include "map_search.h"

#include <stdlib.h>

#include "clock.h"
#include "container_of.h"
#include "jitter.h"
#include "log.h"
#include "metrics.h"
#include "redis/calls/node.h"

enum {
    ASKED_AT_ONCE = 3,
    ASKED_MOST = 30,     /* in one search; the next one begins with others */
    MORE_VOTES_MS = 300, /* so long after the first vote no further node is asked */
    REFUSAL_INTERVAL_MS = 10000
};

enum rank { RANK_SEED, RANK_UP, RANK_MASTER, RANK_REPLICA };

struct map_candidate {
    struct endpoint endpoint;
    enum rank rank;
    uint64_t order; /* random, within a rank */
};

/* The questions to one node; freed when both have ended. */
struct ballot {
    struct store_call slots_call, nodes_call;
    struct map_search *search;
    unsigned number; /* of the search */
    struct endpoint asked;
    enum rank rank;
    unsigned owed; /* answers */
    struct slot_map *map;
    const char *why; /* an answer was no map */
    enum err err;
};

static void continue_search(struct map_search *search);

/* --- candidates --- */

static void add_candidate(struct map_search *search, struct endpoint_table *added,
                          const struct endpoint *endpoint, enum rank rank)
{
    if (endpoint_table_find(added, endpoint))
        return;
    struct map_candidate *candidate = &search->candidates[search->candidate_count++];
    candidate->endpoint = *endpoint;
    candidate->rank = rank;
    candidate->order = jitter_next(&search->link->seed);
    endpoint_table_add(added, &candidate->endpoint);
}

static int compare_candidates(const void *a, const void *b)
{
    const struct map_candidate *one = a, *other = b;
    if (one->rank != other->rank)
        return one->rank < other->rank ? -1 : 1;
    return (one->order > other->order) - (one->order < other->order);
}

static enum rank node_rank(const struct store_link *link, const struct slot_map *map, size_t node)
{
    if (node >= map->master_count)
        return RANK_REPLICA;
    return node_is_up(link, &map->nodes[node]) ? RANK_UP : RANK_MASTER;
}

/* In random order within a rank, so that the load spreads. */
static void choose_candidates(struct map_search *search)
{
    const struct settings *settings = search->link->settings;
    const struct slot_map *map = search->present;
    size_t most = settings->seed_count + (map ? map->node_count : 0);
    struct endpoint_table added = {0};
    free(search->candidates);
    search->candidates = xcalloc(most, sizeof(search->candidates[0]));
    search->candidate_count = 0;
    for (size_t i = 0; i < settings->seed_count; i++)
        add_candidate(search, &added, &settings->seeds[i], RANK_SEED);
    for (size_t i = 0; map && i < map->node_count; i++)
        add_candidate(search, &added, &map->nodes[i], node_rank(search->link, map, i));
    endpoint_table_free(&added);
    qsort(search->candidates, search->candidate_count, sizeof(search->candidates[0]),
          compare_candidates);
}

/* --- votes --- */

static size_t map_votes_for(const struct map_search *search, size_t vote)
{
    size_t alike = 0;
    for (size_t i = 0; i < search->vote_count; i++)
        alike += i == vote || slot_map_routes_alike(search->votes[i].map, search->votes[vote].map);
    return alike;
}

/* The vote that holds: the most frequent, then of the best known node, then the earliest. */
static size_t best_map_vote(const struct map_search *search)
{
    size_t best = 0, most = 0;
    for (size_t i = 0; i < search->vote_count; i++) {
        size_t alike = map_votes_for(search, i);
        bool better_known = search->votes[i].rank < search->votes[best].rank;
        if (alike > most || (alike == most && better_known)) {
            best = i;
            most = alike;
        }
    }
    return best;
}

static struct slot_map *take_best(struct map_search *search)
{
    if (search->vote_count == 0)
        return NULL;
    struct slot_map *maps[MAP_VOTERS] = {NULL};
    for (size_t i = 0; i < search->vote_count; i++)
        maps[i] = search->votes[i].map;
    struct slot_map *best = slot_map_ref(search->votes[best_map_vote(search)].map);
    slot_map_keep_members(best, maps, search->vote_count);
    return best;
}

static void forget_votes(struct map_search *search)
{
    while (search->vote_count > 0)
        slot_map_unref(&search->votes[--search->vote_count].map);
    slot_map_unref(&search->foreign_map);
    slot_map_unref(&search->present);
}

static void conclude_search(struct map_search *search, struct slot_map *map)
{
    forget_votes(search);
    search->done(search, map, search->err);
}

static void log_foreign_map(struct map_search *search)
{
    metrics_add(METRIC_STORE_MAPS_FOREIGN, 1);
    server_problems_log(
        &search->link->settings->foreign, &search->foreign_at,
        "answers for another Redis Cluster, which shares no node with the present one and "
        "is no copy of it; if it is to take its place, restart all nodes");
}

static void end_with_foreign_map(struct map_search *search, bool is_copy)
{
    search->err = ERR_STORE_UNAVAILABLE;
    if (is_copy)
        search->heard = search->link->settings->number;
    else
        log_foreign_map(search);
    conclude_search(search, is_copy ? slot_map_ref(search->foreign_map) : take_best(search));
}

static void on_mark(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct map_search *search = container_of(call, struct map_search, mark_call);
    if (err == ERR_SHUTTING_DOWN)
        return;
    struct node_id ours = node_id_read(text_of(search->mark.digits)), theirs = {{0}};
    if (err == ERR_OK)
        theirs = node_id_read(store_reply_text(reply));
    end_with_foreign_map(search, node_id_known(&ours) && node_id_compare(&ours, &theirs) == 0);
}

/* Asks the owner of the mark's slot in the foreign cluster for it. */
static void look_for_mark(struct map_search *search)
{
    struct text key = text_of(search->mark.key);
    uint16_t owner = search->foreign_map->owner[store_slot(key)];
    if (owner == SLOT_NONE) {
        end_with_foreign_map(search, false);
        return;
    }
    const struct text arguments[] = {TEXT("HGET"), key, text_of(search->mark.field)};
    search->mark_call = link_question(arguments, 3, LINK_ANSWER_MS, on_mark);
    search->mark_call.key = key;
    link_ask(search->link, &search->mark_call, &search->foreign_map->nodes[owner]);
}

static bool may_be_copy(const struct map_search *search)
{
    return search->vote_count == 0 ||
           (search->foreign_rank == RANK_SEED && search->heard != search->link->settings->number);
}

static void decide_map(struct map_search *search)
{
    search->number++;
    if (!search->foreign_map)
        conclude_search(search, take_best(search));
    else if (!may_be_copy(search))
        end_with_foreign_map(search, false);
    else if (store_state_read_mark(search->link->store, &search->mark))
        look_for_mark(search);
    else
        end_with_foreign_map(search, true);
}

/* A server may be refused at every refresh. */
static void log_map_refusal(struct map_search *search, const struct ballot *ballot)
{
    int64_t now_ms = clock_monotonic_ms();
    if (search->refusal_logged_ms && now_ms - search->refusal_logged_ms < REFUSAL_INTERVAL_MS)
        return;
    search->refusal_logged_ms = now_ms;
    log_warning("store_map_refused", "host=%s port=%u why=\"%s\"", ballot->asked.host,
                ballot->asked.port, ballot->why);
}

static void keep_foreign_map(struct map_search *search, struct ballot *ballot)
{
    if (search->foreign_map)
        return;
    search->foreign_map = slot_map_ref(ballot->map);
    search->foreign_at = ballot->asked;
    search->foreign_rank = ballot->rank;
}

static void keep_vote(struct map_search *search, struct ballot *ballot)
{
    server_problems_over(&search->link->settings->foreign, &ballot->asked);
    if (ballot->rank == RANK_SEED)
        search->heard = search->link->settings->number;
    if (search->vote_count == 0)
        search->first_vote_ms = clock_monotonic_ms();
    search->votes[search->vote_count++] =
        (struct map_vote){slot_map_ref(ballot->map), ballot->rank};
}

static void count_map_vote(struct map_search *search, struct ballot *ballot)
{
    search->asking--;
    if (ballot->map && search->present && !slot_map_is_related(ballot->map, search->present)) {
        keep_foreign_map(search, ballot);
    } else if (ballot->map) {
        keep_vote(search, ballot);
    } else {
        search->err = ballot->err;
        if (ballot->why)
            log_map_refusal(search, ballot);
    }
    continue_search(search);
}

/* --- questions --- */

static void end_question(struct ballot *ballot, enum err err)
{
    ballot->owed--;
    if (ballot->owed > 0)
        return;
    struct map_search *search = ballot->search;
    if (err != ERR_SHUTTING_DOWN && ballot->number == search->number)
        count_map_vote(search, ballot);
    slot_map_unref(&ballot->map);
    free(ballot);
}

/* An answer without a map is another failure than none. */
static void on_slots(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct ballot *ballot = container_of(call, struct ballot, slots_call);
    ballot->err = err != ERR_OK ? err : ERR_STORE_PROTOCOL;
    if (err == ERR_OK)
        ballot->map = slot_map_parse(reply, ballot->asked.host, &ballot->why);
    end_question(ballot, err);
}

/* Servers may refuse CLUSTER NODES: then no node without slots is a member. */
static void on_nodes(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct ballot *ballot = container_of(call, struct ballot, nodes_call);
    if (err == ERR_OK && ballot->map &&
        !slot_map_add_members(ballot->map, store_reply_text(reply), ballot->asked.host)) {
        slot_map_unref(&ballot->map);
        ballot->why = "names more than 4000 members";
    }
    end_question(ballot, err);
}

static void ask_node(struct map_search *search)
{
    static const struct text slots[] = {{"CLUSTER", 7}, {"SLOTS", 5}};
    static const struct text nodes[] = {{"CLUSTER", 7}, {"NODES", 5}};
    const struct map_candidate *candidate = &search->candidates[search->asked++];
    struct ballot *ballot = xcalloc(1, sizeof(*ballot));
    search->asking++;
    ballot->search = search;
    ballot->number = search->number;
    ballot->asked = candidate->endpoint;
    ballot->rank = candidate->rank;
    ballot->owed = 2;
    ballot->slots_call = link_question(slots, 2, LINK_ANSWER_MS, on_slots);
    ballot->nodes_call = link_question(nodes, 2, LINK_ANSWER_MS, on_nodes);
    /* In this order, which is that of the answers. */
    link_ask(search->link, &ballot->slots_call, &ballot->asked);
    link_ask(search->link, &ballot->nodes_call, &ballot->asked);
}

static bool may_ask(const struct map_search *search)
{
    if (search->asked == search->candidate_count || search->asked >= ASKED_MOST ||
        search->asking >= ASKED_AT_ONCE || search->vote_count + search->asking >= MAP_VOTERS)
        return false;
    return search->vote_count == 0 || clock_monotonic_ms() - search->first_vote_ms < MORE_VOTES_MS;
}

static bool is_agreed(const struct map_search *search)
{
    return search->vote_count > 1 && map_votes_for(search, best_map_vote(search)) > 1;
}

static void continue_search(struct map_search *search)
{
    if (is_agreed(search)) {
        decide_map(search);
        return;
    }
    while (may_ask(search))
        ask_node(search);
    if (search->asking == 0)
        decide_map(search);
}

void map_search(struct map_search *search)
{
    search->present = store_state_ref_map(search->link->store);
    choose_candidates(search);
    search->asked = 0;
    search->asking = 0;
    search->err = ERR_STORE_UNAVAILABLE;
    continue_search(search);
}

void map_search_free(struct map_search *search)
{
    forget_votes(search);
    free(search->candidates);
    search->candidates = NULL;
}
