/* The search: one sentinel, one server, the next sentinel. */
#include "sentinel.h"

#include <assert.h>
#include <stddef.h>

#include "clock.h"

enum { ANSWER_MS = 300 }; /* for one sentinel or server */

static void ask_sentinel(struct sentinel_search *search);

static struct sentinel_search *search_of(struct store_call *call)
{
    return (struct sentinel_search *)((char *)call - offsetof(struct sentinel_search, call));
}

static void end(struct sentinel_search *search, const struct endpoint *master, enum err err)
{
    settings_unref(&search->settings);
    search->done(search, master, err);
}

static size_t present(const struct sentinel_search *search)
{
    return (search->first + search->asked) % search->settings->seed_count;
}

static void try_next(struct sentinel_search *search, enum err err)
{
    search->asked++;
    if (search->asked == search->settings->seed_count)
        end(search, NULL, err);
    else
        ask_sentinel(search);
}

static void send_to(struct sentinel_search *search, const struct endpoint *endpoint, size_t count,
                    void (*done)(struct store_call *call, enum err err,
                                 const struct store_reply *reply))
{
    search->call = (struct store_call){
        .arguments = search->arguments,
        .argument_count = count,
        .deadline_ms = clock_monotonic_ms() + ANSWER_MS,
        .done = done,
    };
    link_send_direct(search->link, &search->call, endpoint);
}

/* A server that was named and is no master has been demoted, or not yet promoted: another sentinel
 * may know better. */
static void on_role(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct sentinel_search *search = search_of(call);
    if (err == ERR_SHUTTING_DOWN) {
        settings_unref(&search->settings);
        return;
    }
    const struct store_reply *role = err == ERR_OK ? store_reply_element(reply, 0) : NULL;
    if (!role || !text_equal(store_reply_text(role), TEXT("master"))) {
        try_next(search, err != ERR_OK ? err : ERR_STORE_REFUSED);
        return;
    }
    search->first = present(search);
    end(search, &search->candidate, ERR_OK);
}

/* The answer is [host, port], or nil from a sentinel that does not know the name. */
static bool read_address(const struct store_reply *reply, struct endpoint *ret)
{
    const struct store_reply *host = store_reply_element(reply, 0);
    const struct store_reply *port = store_reply_element(reply, 1);
    int64_t number;
    return host && port && store_reply_int(port, &number) &&
           endpoint_set(ret, store_reply_text(host), number);
}

static void on_address(struct store_call *call, enum err err, const struct store_reply *reply)
{
    struct sentinel_search *search = search_of(call);
    if (err == ERR_SHUTTING_DOWN) {
        settings_unref(&search->settings);
        return;
    }
    if (err != ERR_OK || !read_address(reply, &search->candidate)) {
        try_next(search, err != ERR_OK ? err : ERR_STORE_PROTOCOL);
        return;
    }
    search->arguments[0] = TEXT("ROLE");
    send_to(search, &search->candidate, 1, on_role);
}

static void ask_sentinel(struct sentinel_search *search)
{
    const struct endpoint *sentinel = &search->settings->seeds[present(search)];
    search->arguments[0] = TEXT("SENTINEL");
    search->arguments[1] = TEXT("get-master-addr-by-name");
    search->arguments[2] = text_of(search->settings->sentinel_name);
    link_sentinel_node(search->link, sentinel);
    send_to(search, sentinel, 3, on_address);
}

void sentinel_search(struct sentinel_search *search)
{
    assert(!search->settings);
    search->settings = settings_ref(search->link->settings);
    search->asked = 0;
    ask_sentinel(search);
}
