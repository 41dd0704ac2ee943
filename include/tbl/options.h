/* Every option: struct field, parser, bounds, default, --dump-config, conf/sessiond.conf and docs/configuration.md.
 *
 * OPTION_TEXT(section, name, default, reload, help)             any text
 * OPTION_LIST(section, name, default, reload, help)             blank-separated words
 * OPTION_INT(section, name, default, min, max, reload, help)
 * OPTION_BYTES   the same, takes K, M, G
 * OPTION_SECONDS the same, takes s, m, h, d; without a unit: seconds
 * OPTION_MILLIS  the same, takes ms, s, m; without a unit: milliseconds
 * OPTION_BOOL(section, name, default, reload, help)             yes|no
 * OPTION_ENUM(section, name, enum type, words, default index, reload, help)
 * OPTION_FLAGS(section, name, words, default bits, reload, help) blank-separated words out of these
 * reload: RELOAD takes effect on SIGHUP, RESTART needs a restart. */
#ifndef OPTION_TEXT
#error "define the OPTION_ macros before including tbl/options.h"
#endif
OPTION_TEXT(server, listen, "127.0.0.1:8080", RESTART, "Address and port of the service; [::]:8080 takes IPv6 and IPv4. Empty: no TCP listener.")
OPTION_TEXT(server, unix_socket, "", RESTART, "Path of a Unix socket that serves the same calls. Empty: none.")
OPTION_TEXT(server, ops_listen, "127.0.0.1:8081", RESTART, "Address and port of /livez, /readyz, /metrics and /version.")
OPTION_TEXT(server, node_name, "", RESTART, "Name of this node in audit lines and /version. Empty: the host's name.")
OPTION_INT(server, workers, 0, 0, 256, RESTART, "Worker threads. 0: one for each processor.")
OPTION_INT(server, max_connections, 10000, 1, 1000000, RELOAD, "Open connections over all; one more gets 503 and is closed.")
OPTION_INT(server, max_connections_per_address, 2000, 1, 1000000, RELOAD, "Open connections from one address; one more gets 503 and is closed.")
OPTION_SECONDS(server, header_timeout, 10, 1, 3600, RELOAD, "From the first byte of a request to the end of its headers.")
OPTION_SECONDS(server, body_timeout, 15, 1, 3600, RELOAD, "From the end of the headers to the end of the body.")
OPTION_SECONDS(server, write_timeout, 10, 1, 3600, RELOAD, "For a client to take its answer.")
OPTION_SECONDS(server, keepalive_timeout, 75, 1, 86400, RELOAD, "For a connection without a request.")
OPTION_SECONDS(server, drain_timeout, 20, 1, 3600, RELOAD, "For requests under way when the service stops.")
OPTION_BYTES(server, head_memory, 8192, 4096, 1048576, RESTART, "Memory for the head of a request and of its answer, for each connection; a request line or headers that do not fit get 414 or 431.")
OPTION_BYTES(server, body_limit, 16384, 256, 1048576, RELOAD, "Largest body of a request.")
OPTION_LIST(server, trusted_proxies, "", RELOAD, "Networks (10.0.0.0/8 fd00::/8) whose X-Forwarded-For is believed.")
OPTION_ENUM(redis, mode, redis_mode, "cluster|standalone|sentinel", REDIS_CLUSTER, RESTART, "How the Redis servers are organised.")
OPTION_LIST(redis, nodes, "127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003", RELOAD, "Where to ask for the slot map; the one server in standalone mode, the sentinels in sentinel mode.")
OPTION_TEXT(redis, user, "", RELOAD, "ACL user. Empty: the default user.")
OPTION_TEXT(redis, password_file, "", RELOAD, "File that holds the password, mode 0600. Empty: no AUTH.")
OPTION_MILLIS(redis, timeout, 500, 10, 60000, RELOAD, "For everything that one request needs from Redis, retries included.")
OPTION_MILLIS(redis, connect_timeout, 300, 10, 60000, RELOAD, "For a connection to be made and authenticated.")
OPTION_MILLIS(redis, wait_timeout, 100, 0, 60000, RELOAD, "For a replica to have a write (WAIT 1). 0: do not ask, right for a server without replicas; durability is then always accepted.")
OPTION_MILLIS(redis, reconnect_max, 1000, 10, 60000, RELOAD, "Longest pause between attempts to reconnect; the pause doubles from 10 ms, with jitter.")
OPTION_SECONDS(redis, map_refresh, 15, 1, 3600, RELOAD, "Pause between unasked refreshes of the slot map.")
OPTION_TEXT(redis, sentinel_name, "mymaster", RELOAD, "Sentinel mode: the name by which the sentinels know the master.")
OPTION_TEXT(redis, sentinel_user, "", RELOAD, "Sentinel mode: ACL user at the sentinels. Empty: the default user.")
OPTION_TEXT(redis, sentinel_password_file, "", RELOAD, "Sentinel mode: file that holds the password of the sentinels, mode 0600. Empty: no AUTH.")
OPTION_LIST(redis, near_replicas, "", RELOAD, "Networks (10.1.0.0/16) of the own zone: device lists are read from replicas in them. Empty: from masters. Tokens are never validated by a replica.")
OPTION_BOOL(redis, tls, false, RESTART, "Talk TLS (1.2 or later) to Redis and the sentinels; certificates are verified.")
OPTION_TEXT(redis, tls_ca_file, "", RELOAD, "PEM file with the authorities that are believed. Empty: those of the system.")
OPTION_TEXT(redis, tls_cert_file, "", RELOAD, "PEM file with the certificate, and chain, that this node shows to Redis. Empty: none.")
OPTION_TEXT(redis, tls_key_file, "", RELOAD, "PEM file with the key of that certificate, mode 0600.")
OPTION_TEXT(redis, tls_server_name, "", RELOAD, "Name that the certificates of Redis must bear. Empty: the host or address that was connected to.")
OPTION_BYTES(cache, bytes, 268435456, 0, 1099511627776, RELOAD, "Memory for validated tokens, about 400 bytes each. 0: no cache, every validation asks Redis.")
OPTION_BYTES(cache, tenant_bytes, 0, 0, 1099511627776, RELOAD, "The most of it that one tenant gets. 0: all.")
OPTION_BYTES(cache, policy_bytes, 134217728, 1048576, 17179869184, RESTART, "Memory for what is known of tenants: their policies.")
OPTION_TEXT(cache, snapshot, "/var/lib/sessiond/cache", RESTART, "File that keeps the cache, sealed, over a restart; beside it, with .tenants behind its name, one for policies. Empty: none.")
OPTION_SECONDS(cache, snapshot_interval, 60, 1, 86400, RELOAD, "Pause between snapshots; one more is made at stop.")
OPTION_SECONDS(outage, grace, 900, 0, 86400, RELOAD, "While Redis does not answer, a token that was validated no longer ago is still good; the answer says that it is stale.")
OPTION_TEXT(journal, file, "/var/lib/sessiond/journal", RESTART, "What was revoked through this node, until no token of it could live; mode 0600.")
OPTION_BYTES(journal, max_bytes, 67108864, 65536, 17179869184, RELOAD, "Size of the journal. Beyond it revocations that Redis has are forgotten, the oldest of the tenant that has most; one that Redis does not have is refused with 503 when its tenant has as many of these as there is room left for all others (alone: half).")
OPTION_TEXT(keys, file, "/var/lib/sessiond/keys", RESTART, "Secret keys, made with mode 0600 on the first start. A systemd credential named sessiond-keys wins.")
OPTION_ENUM(keys, encryption, encryption, "aes-128-gcm|none", ENCRYPTION_AES_128_GCM, RESTART, "Sealing of records in Redis; none stores plain JSON, for debugging only.")
OPTION_SECONDS(policy, access_ttl, 7200, 10, 31536000, RELOAD, "Life of an access token.")
OPTION_SECONDS(policy, refresh_ttl, 604800, 10, 31536000, RELOAD, "Life of a refresh token.")
OPTION_SECONDS(policy, idle_timeout, 1800, 10, 31536000, RELOAD, "A session that was not used for so long ends, unless its login said remember.")
OPTION_SECONDS(policy, absolute_timeout, 2592000, 10, 31536000, RELOAD, "A session ends so long after its login, used or not.")
OPTION_SECONDS(policy, refresh_grace, 30, 0, 300, RELOAD, "A refresh token that was just used answers with the same pair again for so long.")
OPTION_INT(policy, max_devices, 10, 1, 1000, RELOAD, "Living sessions of one user.")
OPTION_ENUM(policy, renew, renew, "sliding|fixed", RENEW_SLIDING, RELOAD, "What restarts the idle time: every use, or login and refresh only.")
OPTION_ENUM(policy, overflow, overflow, "evict_oldest|evict_idlest|evict_all|reject", OVERFLOW_EVICT_OLDEST, RELOAD, "What a login beyond max_devices does.")
OPTION_ENUM(policy, exclusive, exclusive, "none|device_type|user", EXCLUSIVE_NONE, RELOAD, "A login ends the user's other sessions: none, those of the same device type, all.")
OPTION_FLAGS(policy, self_service, "devices|kick|logout_all", 7, RELOAD, "What users may do with their own token: devices, kick, logout_all.")
OPTION_ENUM(policy, bind_ip, binding, "off|log|verify|strict", BINDING_OFF, RELOAD, "A token that comes from another network than its login: nothing, a word in the audit line, a second verification, refused.")
OPTION_ENUM(policy, bind_device, binding, "off|log|verify|strict", BINDING_OFF, RELOAD, "The same for a token that comes with another device fingerprint than its login.")
OPTION_FLAGS(policy, verify_on, "new_device|new_location", 0, RELOAD, "Logins that need a second verification: from a device, from a place that the user has not used.")
OPTION_ENUM(policy, verify_method, verify_method, "external|otp", VERIFY_EXTERNAL, RELOAD, "Who verifies: the calling service, or a six-digit code that sessiond makes and the service delivers.")
OPTION_ENUM(policy, same_site, same_site, "lax|strict", SAME_SITE_LAX, RELOAD, "SameSite of session cookies.")
OPTION_BOOL(policy, force_logout, true, RELOAD, "May a tenant's own keys end its users' sessions; keys of all tenants always may.")
OPTION_INT(policy, requests_per_second, 0, 0, 1000000, RELOAD, "Calls of one tenant that each node takes a second; more get 429. 0: no limit.")
OPTION_INT(policy, burst, 0, 0, 1000000, RELOAD, "Calls of one tenant that may come at once. 0: as many as in a second.")
OPTION_INT(policy, logins_per_user_per_minute, 0, 0, 6000, RELOAD, "Logins of one user that each node takes a minute; more get 429. 0: no limit.")
OPTION_INT(limits, wrong_keys_per_minute, 30, 0, 1000000, RELOAD, "Wrong service keys from one address; then 429 for it. 0: no limit.")
OPTION_INT(limits, forged_tokens_per_minute, 300, 0, 1000000, RELOAD, "Tokens from one address that were never issued; then 429 for it. 0: no limit.")
OPTION_INT(binding, ipv4_prefix, 24, 8, 32, RELOAD, "IPv4 addresses that share so many bits are one network.")
OPTION_INT(binding, ipv6_prefix, 48, 16, 128, RELOAD, "IPv6 addresses that share so many bits are one network.")
OPTION_TEXT(geoip, database, "", RELOAD, "MaxMind DB file with the places of addresses. Empty: networks stand for places.")
OPTION_LIST(browser, origins, "", RELOAD, "Origins (https://shop.example) whose pages may call with cookies or read answers. Empty: none.")
OPTION_BOOL(browser, cookie, true, RELOAD, "May tokens come in the session cookie. no: in Authorization alone; logins that ask for the cookie are refused.")
OPTION_TEXT(browser, cookie_name, "__Host-session", RELOAD, "Name of the session cookie; it must begin with __Host-.")
OPTION_TEXT(alerts, webhook_url, "", RELOAD, "Where alerts are posted to. Empty: they are audit lines only.")
OPTION_TEXT(alerts, webhook_secret_file, "", RELOAD, "File with the secret that signs the posts, mode 0600.")
OPTION_TEXT(alerts, file, "/var/lib/sessiond/alerts", RESTART, "Alerts that wait to be posted; mode 0600.")
OPTION_BYTES(alerts, max_bytes, 16777216, 65536, 1073741824, RELOAD, "Size of that file; alerts beyond it are counted, not kept.")
OPTION_SECONDS(alerts, refused_after, 3600, 1, 604800, RELOAD, "An alert that the receiver answers with 4xx for so long is set aside, and tried again after as long.")
OPTION_INT(alerts, forced_logouts_per_minute, 20, 0, 1000000, RELOAD, "Users whose sessions one operator ends within a minute before that is an alert. 0: never.")
OPTION_INT(alerts, guesses_per_minute, 100, 0, 1000000, RELOAD, "Wrong keys and forged tokens from one address within a minute before that is an alert. 0: never.")
OPTION_INT(alerts, one_by_one_per_minute, 60, 0, 1000000, RELOAD, "Alerts of one tenant and kind that are told one by one within a minute; of the others one tells how many. 0: all.")
OPTION_TEXT(audit, file, "/var/log/sessiond/audit.log", RESTART, "Audit lines, one a call, in Elastic Common Schema.")
OPTION_BYTES(audit, max_bytes, 268435456, 65536, 1099511627776, RELOAD, "A larger file is rotated; so is one of another day (UTC).")
OPTION_SECONDS(audit, retention, 15552000, 3600, 315360000, RELOAD, "Rotated files older than this are deleted. Less than 180d is warned of.")
OPTION_BYTES(audit, queue_bytes, 16777216, 65536, 1073741824, RELOAD, "Lines that wait to be written.")
OPTION_MILLIS(audit, wait, 100, 0, 10000, RELOAD, "For the line of a read to get its place in a full queue.")
OPTION_ENUM(audit, overflow, audit_overflow, "refuse|count", AUDIT_REFUSE, RELOAD, "A read whose line got none: refused with 503, or answered. A later line counts both.")
OPTION_ENUM(log, level, log_level, "debug|info|warning|error", LOG_LEVEL_INFO, RELOAD, "Least level of the lines on stderr.")
#undef OPTION_TEXT
#undef OPTION_LIST
#undef OPTION_INT
#undef OPTION_BYTES
#undef OPTION_SECONDS
#undef OPTION_MILLIS
#undef OPTION_BOOL
#undef OPTION_ENUM
#undef OPTION_FLAGS
