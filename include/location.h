/* The location of an address: by a MaxMind DB file (geoip.database) if there is one, else by its
 * network.
 *
 * It has two uses: to tell whether a login comes from a known location, and to name the location in
 * a list of devices. Databases locate an address by its provider: countries are mostly right,
 * subdivisions often, cities so seldom that a train ride looks like a journey. So a location is a
 * country and its first subdivision; the city is only shown. IPv4-mapped IPv6 addresses count as
 * IPv4.
 *
 * The open database is immutable and reference-counted. It is a copy in memory, as large as the
 * file, made at start and at each reload; changes of the file in between are not seen. */
#pragma once

#include "address.h"
#include "conf.h"
#include "memory.h"

struct location_db;
/* Opens geoip.database; without one locations are networks only. NULL with *error, a sentence that
 * names option and file. Blocks: not for loop threads. One reference for the caller. */
struct location_db *location_db_open(const struct conf *conf, struct buffer *error);
struct location_db *location_db_ref(struct location_db *locations);
void location_db_unref(struct location_db **locations);

/* The published database, with a reference for the caller. NULL if none was published; the
 * functions below accept that as "no database". */
struct location_db *location_db_current(void);
/* Publishes a database; the caller's reference goes with it. */
void location_db_publish(struct location_db *locations);

/* The first address of its network by binding.ipv4_prefix and binding.ipv6_prefix. */
struct ip_address location_network(const struct conf *conf, const struct ip_address *address);
/* True if both are of one family and in one such network. */
bool location_same_network(const struct conf *conf, const struct ip_address *a,
                           const struct ip_address *b);

/* A key that is equal for addresses in the same location, and for no others; to be hashed, not
 * shown. Addresses unknown to the database, private ones for instance, are located by their
 * network. */
#define LOCATION_KEY_MAX 64
struct text location_key(const struct location_db *locations, const struct conf *conf,
                         const struct ip_address *address, char out[LOCATION_KEY_MAX]);

/* A name for people: "Springfield, Illinois, United States", or as much of that as the database
 * knows, in English. Absent without a database or an entry. Lies in the arena. */
struct text location_name(const struct location_db *locations, const struct ip_address *address,
                          struct arena *arena);
