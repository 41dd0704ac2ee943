/* A worker's end of the store for the rest of the client: store.h, and questions to single nodes.
 */
#pragma once

#include "link_state.h"

/* Patience with one server or sentinel that is asked about the topology. */
enum { LINK_ANSWER_MS = 300 };

/* A command without key for link_send_direct() or link_ask(), with `patience_ms` to answer. */
struct store_call link_question(const struct text *arguments, size_t count, int64_t patience_ms,
                                store_done_fn *done);
/* Sends to this node, once: no redirection, no second try. STORE_REFUSED if the node says that it
 * is not the master of the key's slot, or cannot serve. */
void link_send_direct(struct store_link *link, struct store_call *call,
                      const struct endpoint *endpoint);
/* The same, also to a server other than the one that the map names there. */
void link_ask(struct store_link *link, struct store_call *call, const struct endpoint *endpoint);
