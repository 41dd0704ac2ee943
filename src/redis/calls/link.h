/* A worker's end of the store for the rest of the client: store.h, and questions to single nodes.
 */
#pragma once

#include "link_state.h"

/* A command of no key, for link_send_direct() or link_ask(), that may take so long. */
struct store_call link_question(const struct text *arguments, size_t count, int64_t patience_ms,
                                store_done_fn *done);
/* Sends to this node, once: no redirection, no second try. STORE_REFUSED if the node says that it
 * is not the master of the key's slot, or of no use as one. */
void link_send_direct(struct store_link *link, struct store_call *call,
                      const struct endpoint *endpoint);
/* The same, also if the server there is another one than the map names. */
void link_ask(struct store_link *link, struct store_call *call, const struct endpoint *endpoint);
