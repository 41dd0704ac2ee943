/* What main() can be asked to do; each returns the exit code. Private to main.c and its neighbours.
 */
#pragma once

#include "conf.h"
#include "crypto.h"

enum exit_code { EXIT_DONE = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define DEFAULT_CONFIG "/etc/sessiond/sessiond.conf"

/* Arguments after they were checked; NULL is "not given". */
struct arguments {
    const char *config, *name, *scopes, *tenant, *user; /* --config FILE … */
    const char *operand;                                /* the word behind check-config, reload */
};

/* The service, in the foreground until SIGTERM. */
int daemon_run(const struct arguments *arguments);

int command_check_config(const struct arguments *arguments);
int command_dump_config(const struct arguments *arguments);
int command_dump_commented(const struct arguments *arguments);
int command_keygen(const struct arguments *arguments);
int command_keys(const struct arguments *arguments);
int command_version(const struct arguments *arguments);

/* Loads a configuration; if it is refused, prints the messages to stderr and returns NULL. */
struct conf *command_load_config(const char *path);
/* The key ring of the configuration: the systemd credential sessiond-keys if there is one, else
 * keys.file, which `create` makes if it is missing. */
struct keyring *command_load_keys(const struct conf *conf, bool create, struct buffer *error);
