/* Where an address is: by a MaxMind DB file (geoip.database) if there is one, else by its network.
 *
 * Two uses: is a login from a place where the user was seen before, and what to call the place in a
 * list of devices. Databases place an address by its provider: countries are mostly right, their
 * parts often, towns seldom enough that a train ride looks like a journey. So a place is a country
 * and its first subdivision; the town is only shown. IPv4-mapped IPv6 addresses count as IPv4.
 *
 * The open database is immutable and counted. It is a copy in memory, as large as the file, made at
 * start and at each reload: what becomes of the file between them is not seen. */
#pragma once

#include "address.h"
#include "conf.h"
#include "memory.h"

struct location_db;
/* Opens geoip.database; without one the places know networks only. NULL with *error, a sentence
 * that names option and file. Blocks: not for loop threads. One reference for the caller. */
struct location_db *location_db_open(const struct conf *conf, struct buffer *error);
struct location_db *location_db_ref(struct location_db *locations);
void location_db_unref(struct location_db **locations);

/* The published ones, with a reference for the caller; NULL: nothing was published, which the
 * functions below take for "no database". */
struct location_db *location_db_current(void);
/* Publishes: takes over the caller's reference. */
void location_db_publish(struct location_db *locations);

/* The first address of its network by binding.ipv4_prefix and binding.ipv6_prefix. */
struct ip_address location_network(const struct conf *conf, const struct ip_address *address);
/* True if both are of one family and one such network. */
bool location_same_network(const struct conf *conf, const struct ip_address *a,
                           const struct ip_address *b);

/* What is equal for addresses in the same place, and for others not: for hashing, not for people.
 * Addresses that the database does not know, private ones for instance, are placed by their
 * network. */
#define LOCATION_KEY_MAX 64
struct text location_key(const struct location_db *locations, const struct conf *conf,
                         const struct ip_address *address, char out[LOCATION_KEY_MAX]);

/* What people call it: "Springfield, Illinois, United States", or as much of that as the database
 * knows, in English. Absent if it knows nothing or there is none. Lies in the arena. */
struct text location_name(const struct location_db *locations, const struct ip_address *address,
                          struct arena *arena);
