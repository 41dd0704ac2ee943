/* The slot map of a cluster: who is asked, and whose answer holds.
 *
 * Three nodes are asked at a time for CLUSTER SLOTS and CLUSTER NODES: seeds first, since they are
 * the operator's word, then masters whose connection is up, then the rest of the present map. Two
 * maps that route alike decide; with less agreement the one of the better known node holds. So
 * neither a node with a wrong map nor thousands that do not answer hold it up.
 *
 * A foreign map, which shares no node with the present one, is no vote. It is considered if there
 * is no other, or if it is a seed's and no seed of these settings has given another yet. It holds
 * if its cluster has the mark of the store (store.h): so a reload can lead to a copy. */
#pragma once

#include "redis/calls/link.h"

enum { MAP_VOTERS = 3 };

/* A node's answer. */
struct map_vote {
    struct slot_map *map;
    unsigned rank; /* of the node that was asked: lower is better known */
};

/* One search at a time. The owner sets the first group. */
struct map_search {
    struct store_link *link;
    /* Called once for each search, unless the link is closed meanwhile: with the map, which is the
     * callee's, or NULL and the reason of the last node asked. */
    void (*done)(struct map_search *search, struct slot_map *map, enum err err);
    size_t asked; /* nodes, in this search */

    /* Private. */
    unsigned number; /* of this search; answers to an earlier one are late */
    struct map_candidate *candidates;
    size_t candidate_count;
    size_t asking;
    struct map_vote votes[MAP_VOTERS];
    size_t vote_count;
    int64_t first_vote_ms;
    int64_t refusal_logged_ms;
    struct slot_map *present;     /* when the search began; NULL: there was none */
    struct slot_map *foreign_map; /* the first; NULL: none */
    struct endpoint foreign_at;
    unsigned foreign_rank;
    uint64_t heard; /* number of the settings of which a seed's map held last; 0: none */
    struct store_call mark_call;
    struct store_mark mark;
    enum err err;
};

void map_search(struct map_search *search);
/* Frees the search, after the link was closed. */
void map_search_free(struct map_search *search);
