/* The only user of libmaxminddb. Look-ups read mapped memory and allocate nothing.
 *
 * The library maps a file and cannot be given memory. Truncating or overwriting a mapped file in
 * place would kill the process with SIGBUS or change checked data. So the library gets a copy: a
 * sealed file in memory (memfd_create(2)), by its name in /proc. */
#include "location.h"

#include <errno.h>
#include <fcntl.h>
#include <maxminddb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct location_db {
    atomic_uint references;
    bool has_database;
    MMDB_s database;
};

/* --- the copy --- */

enum { PIECE = 1 << 24 };

/* True if `to` has as many bytes as the file had at first, and the file did not change meanwhile.
 */
static bool copy_file(int from, int to, const char **why)
{
    struct stat before, after;
    *why = NULL;
    if (fstat(from, &before) != 0)
        return false;
    if (!S_ISREG(before.st_mode)) {
        *why = "is not a regular file";
        return false;
    }
    off_t copied = 0;
    ssize_t count = 1;
    while (copied < before.st_size && count > 0) {
        count = sendfile(to, from, NULL, PIECE);
        copied += count > 0 ? count : 0;
    }
    if (count < 0 || fstat(from, &after) != 0)
        return false;
    bool still = copied == before.st_size && after.st_size == before.st_size &&
                 after.st_mtim.tv_sec == before.st_mtim.tv_sec &&
                 after.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
    if (!still)
        *why = "changed while it was read";
    return still;
}

/* The descriptor of a sealed copy; -1 with *why or, if that is NULL, errno. */
static int make_copy(const char *path, const char **why)
{
    *why = NULL;
    /* O_NONBLOCK is for pipes, which are refused. */
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (from < 0)
        return -1;
    int to = memfd_create("geoip", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool copied =
        to >= 0 && copy_file(from, to, why) &&
        fcntl(to, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    int saved = errno;
    close(from);
    if (!copied && to >= 0)
        close(to);
    errno = saved;
    return copied ? to : -1;
}

/* NULL or the reason of a failure. The mapping keeps the copy; its descriptor is closed. */
static const char *open_copy(const char *path, MMDB_s *database)
{
    const char *why;
    char name[32];
    int copy = make_copy(path, &why);
    if (copy < 0)
        return why ? why : strerror(errno);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", copy);
    int status = MMDB_open(name, MMDB_MODE_MMAP, database);
    close(copy);
    return status == MMDB_SUCCESS ? NULL : MMDB_strerror(status);
}

/* --- creation and end --- */

struct location_db *location_db_open(const struct conf *conf, struct buffer *error)
{
    struct location_db *locations = xcalloc(1, sizeof(*locations));
    const char *path = conf->geoip_database;
    atomic_init(&locations->references, 1);
    if (path[0] == '\0')
        return locations;
    const char *why = open_copy(path, &locations->database);
    if (why) {
        buffer_addf(error, "geoip.database: '%s' cannot be used: %s\n", path, why);
        free(locations);
        return NULL;
    }
    locations->has_database = true;
    return locations;
}

struct location_db *location_db_ref(struct location_db *locations)
{
    atomic_fetch_add_explicit(&locations->references, 1, memory_order_relaxed);
    return locations;
}

void location_db_unref(struct location_db **locations)
{
    struct location_db *given = *locations;
    *locations = NULL;
    if (!given || atomic_fetch_sub_explicit(&given->references, 1, memory_order_acq_rel) != 1)
        return;
    if (given->has_database)
        MMDB_close(&given->database);
    free(given);
}

/* Guards the pointer only, like conf_current()'s lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct location_db *published;

struct location_db *location_db_current(void)
{
    pthread_mutex_lock(&lock);
    struct location_db *current = published ? location_db_ref(published) : NULL;
    pthread_mutex_unlock(&lock);
    return current;
}

void location_db_publish(struct location_db *locations)
{
    pthread_mutex_lock(&lock);
    struct location_db *old = published;
    published = locations;
    pthread_mutex_unlock(&lock);
    location_db_unref(&old);
}

/* --- networks --- */

static struct ip_network network_around(const struct conf *conf, const struct ip_address *address)
{
    bool is_ipv4 = address->family == AF_INET;
    struct ip_network network = {
        *address, (unsigned)(is_ipv4 ? conf->binding_ipv4_prefix : conf->binding_ipv6_prefix)};
    for (unsigned bit = network.prefix; bit < 8 * sizeof(address->bytes); bit++)
        network.address.bytes[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    return network;
}

struct ip_address location_network(const struct conf *conf, const struct ip_address *address)
{
    return network_around(conf, address).address;
}

bool location_same_network(const struct conf *conf, const struct ip_address *a,
                           const struct ip_address *b)
{
    struct ip_network network = network_around(conf, a);
    return ip_network_contains(&network, b);
}

/* --- the database --- */

/* Finds the database's entry of an address. False if there is none. */
static bool find_in_database(const struct location_db *locations, const struct ip_address *address,
                             MMDB_entry_s *ret)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } socket_address = {.any = {.sa_family = (sa_family_t)address->family}};
    int error = MMDB_SUCCESS;
    if (!locations || !locations->has_database)
        return false;
    if (address->family == AF_INET)
        memcpy(&socket_address.in.sin_addr, address->bytes, 4);
    else
        memcpy(&socket_address.in6.sin6_addr, address->bytes, 16);
    MMDB_lookup_result_s found =
        MMDB_lookup_sockaddr(&locations->database, &socket_address.any, &error);
    *ret = found.entry;
    return error == MMDB_SUCCESS && found.found_entry;
}

/* The string at a path of names and indices; absent if there is none. */
static struct text string_at_path(MMDB_entry_s *entry, const char *const path[])
{
    MMDB_entry_data_s data;
    if (MMDB_aget_value(entry, &data, path) != MMDB_SUCCESS || !data.has_data ||
        data.type != MMDB_DATA_TYPE_UTF8_STRING || data.data_size == 0)
        return (struct text){0};
    return (struct text){data.utf8_string, data.data_size};
}

static const char *const country_code[] = {"country", "iso_code", NULL};
static const char *const registered_code[] = {"registered_country", "iso_code", NULL};
static const char *const subdivision_code[] = {"subdivisions", "0", "iso_code", NULL};

static const char *const country_name[] = {"country", "names", "en", NULL};
static const char *const subdivision_name[] = {"subdivisions", "0", "names", "en", NULL};
static const char *const city_name[] = {"city", "names", "en", NULL};

/* --- locations --- */

static struct text print_network(const struct ip_network *network, char out[LOCATION_KEY_MAX])
{
    char *end = stpcpy(out, network->address.family == AF_INET ? "4:" : "6:");
    *end++ = (char)network->prefix;
    end = mempcpy(end, network->address.bytes, sizeof(network->address.bytes));
    return (struct text){out, (size_t)(end - out)};
}

struct text location_key(const struct location_db *locations, const struct conf *conf,
                         const struct ip_address *address, char out[LOCATION_KEY_MAX])
{
    enum { CODE_MAX = 16 };
    MMDB_entry_s entry;
    struct text country = {0}, part = {0};
    if (find_in_database(locations, address, &entry)) {
        country = string_at_path(&entry, country_code);
        if (!country.data)
            country = string_at_path(&entry, registered_code);
        part = string_at_path(&entry, subdivision_code);
    }
    if (!country.data || country.length > CODE_MAX || part.length > CODE_MAX) {
        struct ip_network network = network_around(conf, address);
        return print_network(&network, out);
    }
    char *end = mempcpy(stpcpy(out, "g:"), country.data, country.length);
    *end++ = '/';
    if (part.length > 0)
        end = mempcpy(end, part.data, part.length);
    return (struct text){out, (size_t)(end - out)};
}

struct text location_name(const struct location_db *locations, const struct ip_address *address,
                          struct arena *arena)
{
    MMDB_entry_s entry;
    if (!find_in_database(locations, address, &entry))
        return (struct text){0};
    const struct text names[] = {
        string_at_path(&entry, city_name),
        string_at_path(&entry, subdivision_name),
        string_at_path(&entry, country_name),
    };
    enum { NAMES = sizeof(names) / sizeof(names[0]), NAME_LONGEST = 128 };
    char *out = arena_alloc(arena, NAMES * (NAME_LONGEST + 2));
    size_t length = 0;
    for (size_t i = 0; i < NAMES; i++) {
        bool again = i > 0 && text_equal(names[i], names[i - 1]); /* Berlin, Berlin */
        if (!names[i].data || names[i].length > NAME_LONGEST || again ||
            !text_is_clean_utf8(names[i]))
            continue;
        if (length > 0)
            length = (size_t)((char *)mempcpy(out + length, ", ", 2) - out);
        length = (size_t)((char *)mempcpy(out + length, names[i].data, names[i].length) - out);
    }
    return length > 0 ? (struct text){out, length} : (struct text){0};
}
