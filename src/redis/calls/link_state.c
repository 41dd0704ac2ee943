/* A closed link is freed when libuv has closed its last handle. */
#include "link_state.h"

#include <assert.h>
#include <stdlib.h>

void link_state_hold(struct store_link *link)
{
    link->handles++;
}

static void free_call_states(struct store_link *link)
{
    while (link->free_states) {
        struct store_call_state *state = link->free_states;
        link->free_states = state->next_free;
        buffer_free(&state->bytes);
        free(state);
    }
}

void link_state_release(struct store_link *link)
{
    assert(link->handles > 0);
    link->handles--;
    if (link->handles > 0 || !link->closing)
        return;
    free_call_states(link);
    endpoint_table_free(&link->index);
    endpoint_table_free(&link->replica_index);
    slot_map_unref(&link->map);
    settings_unref(&link->settings);
    free(link->map_nodes);
    free(link->replica_nodes);
    free(link->input);
    free(link);
}
