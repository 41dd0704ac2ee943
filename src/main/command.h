/* The commands of main(); each returns the exit code. Private to main.c and its neighbours. */
#pragma once

#include "conf.h"
#include "crypto.h"

enum exit_code { EXIT_DONE = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define DEFAULT_CONFIG "/etc/sessiond/sessiond.conf"

/* Checked arguments; NULL: not given. */
struct arguments {
    const char *config, *name, *scopes, *tenant, *user; /* --config FILE … */
    const char *operand;                                /* after check-config, reload */
};

/* Runs the service in the foreground until SIGTERM. */
int daemon_run(const struct arguments *arguments);

int command_check_config(const struct arguments *arguments);
int command_dump_config(const struct arguments *arguments);
int command_dump_commented(const struct arguments *arguments);
int command_keygen(const struct arguments *arguments);
int command_keys(const struct arguments *arguments);
int command_version(const struct arguments *arguments);

/* Loads a configuration. If it is refused, prints the messages to stderr and returns NULL. */
struct conf *command_load_config(const char *path);
/* Loads the key ring: from the systemd credential sessiond-keys if there is one, else from
 * keys.file. `create` makes that file if it is missing. NULL with a message in *error on
 * failure. */
struct keyring *command_load_keys(const struct conf *conf, bool create, struct buffer *error);
/* False with a message in *error if there are audiences but no signing key. */
bool command_check_signing(const struct conf *conf, const struct keyring *keyring,
                           struct buffer *error);
